#include "server/http/client_stream.h"

#include <utility>

#include "boost/asio/ssl/error.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/asio/write.hpp"

namespace modu::http {

namespace asio = boost::asio;

struct ClientStream::Plain {
  Tcp::socket stream;
};

struct ClientStream::Tls {
  asio::ssl::stream<Tcp::socket> stream;
};

ClientStream::ClientStream(Tcp::socket socket, asio::ssl::context* tls) {
  if (tls == nullptr) {
    plain_ = std::make_unique<Plain>(std::move(socket));
  } else {
    tls_ = std::make_unique<Tls>(asio::ssl::stream<Tcp::socket>(std::move(socket), *tls));
  }
}

ClientStream::ClientStream(ClientStream&&) noexcept = default;
ClientStream::~ClientStream() = default;

ClientStream::Tcp::socket& ClientStream::socket() {
  return tls_ ? tls_->stream.next_layer() : plain_->stream;
}

void ClientStream::ReadSome(asio::mutable_buffer into, ReadDone done) {
  if (tls_) {
    tls_->stream.async_read_some(into, std::move(done));
  } else {
    plain_->stream.async_read_some(into, std::move(done));
  }
}

size_t ClientStream::WriteSome(const Parts& parts) {
  if (tls_) return 0;  // a record that is half written could not be taken up again
  boost::system::error_code ignored;
  return plain_->stream.write_some(parts, ignored);
}

void ClientStream::Write(const Parts& parts, Done done) {
  auto written = [done = std::move(done)](boost::system::error_code error, size_t) { done(error); };
  if (tls_) {
    asio::async_write(tls_->stream, parts, std::move(written));
  } else {
    asio::async_write(plain_->stream, parts, std::move(written));
  }
}

void ClientStream::Handshake(Done done) {
  tls_->stream.async_handshake(asio::ssl::stream_base::server, std::move(done));
}

void ClientStream::Shutdown(Done done) { tls_->stream.async_shutdown(std::move(done)); }

bool ClientStream::IsEnd(boost::system::error_code error) {
  return error == asio::error::eof || error == asio::ssl::error::stream_truncated;
}

}  // namespace modu::http
