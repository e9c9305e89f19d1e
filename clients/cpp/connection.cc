#include "clients/cpp/modu/connection.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>

namespace modu::client {

namespace asio = boost::asio;
using boost::system::error_code;

Connection::Connection(asio::io_context& io, Endpoint endpoint)
    : endpoint_(std::move(endpoint)), resolver_(io), socket_(io), timer_(io) {}

void Connection::Connect(std::function<void(std::string)> done) {
  resolver_.async_resolve(
      endpoint_.host, endpoint_.port,
      [this, done = std::move(done)](error_code error, const Tcp::resolver::results_type& found) {
        if (closed_) return done("closed");
        if (error) {
          return done("the host's name is not known, is there a network? (" + error.message() +
                      ")");
        }
        asio::async_connect(socket_, found, [this, done](error_code failed, const Tcp::endpoint&) {
          if (closed_) return done("closed");
          if (failed) return done("no connection (" + failed.message() + ")");
          error_code ignored;
          socket_.set_option(Tcp::no_delay(true), ignored);
          if (!endpoint_.tls) return done("");
          Handshake(done);
        });
      });
}

void Connection::Handshake(const std::function<void(std::string)>& done) {
  error_code error;
  context_.emplace(asio::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(context_->native_handle(), TLS1_2_VERSION);
  if (endpoint_.ca_file.empty()) {
    context_->set_default_verify_paths(error);
  } else {
    context_->load_verify_file(endpoint_.ca_file, error);
  }
  if (error) return done("TLS: the certificates to trust cannot be read");
  tls_.emplace(socket_, *context_);
  tls_->set_verify_mode(asio::ssl::verify_peer, error);
  tls_->set_verify_callback(asio::ssl::host_name_verification(endpoint_.host), error);
  asio::ip::make_address(endpoint_.host, error);
  // RFC 6066: a name, never an address.
  if (error) SSL_set_tlsext_host_name(tls_->native_handle(), endpoint_.host.c_str());
  tls_->async_handshake(asio::ssl::stream_base::client, [done](error_code failed) {
    done(failed ? "TLS: the certificate is not trusted or the handshake failed (" +
                      failed.message() + ")"
                : "");
  });
}

void Connection::ReadSome(const std::vector<asio::mutable_buffer>& buffers, Done done) {
  if (tls_) {
    tls_->async_read_some(buffers, std::move(done));
  } else {
    socket_.async_read_some(buffers, std::move(done));
  }
}

void Connection::WriteSome(const std::vector<asio::const_buffer>& buffers, Done done) {
  if (tls_) {
    tls_->async_write_some(buffers, std::move(done));
  } else {
    socket_.async_write_some(buffers, std::move(done));
  }
}

void Connection::SetReadPace(const ReadPace& pace) {
  read_pause_ = pace.pause;
  error_code ignored;  // a wish
  if (pace.receive_buffer_bytes > 0)
    socket_.set_option(asio::socket_base::receive_buffer_size(pace.receive_buffer_bytes), ignored);
}

void Connection::ReadPaced(std::vector<asio::mutable_buffer> buffers, Done done) {
  if (read_pause_.count() == 0) return ReadSome(buffers, std::move(done));
  timer_.expires_after(read_pause_);
  timer_.async_wait([this, buffers = std::move(buffers), done = std::move(done)](error_code) {
    ReadSome(buffers, done);
  });
}

void Connection::Close() {
  closed_ = true;  // a look-up under way cannot be cancelled, only its going on
  error_code ignored;
  resolver_.cancel();
  timer_.cancel();
  socket_.close(ignored);
}

}  // namespace modu::client
