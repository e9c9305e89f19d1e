#include "clients/cpp/modu/stream_call.h"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "clients/cpp/modu/connection.h"
#include "clients/cpp/modu/sse_parser.h"

namespace modu::client {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

class HttpStreamCall final : public StreamCall,
                             public std::enable_shared_from_this<HttpStreamCall> {
 public:
  HttpStreamCall(asio::io_context& io, const Endpoint& endpoint, const std::string& target,
                 std::string body, StreamHandlers handlers, ReadPace pace)
      : connection_(io, endpoint),
        handlers_(std::move(handlers)),
        pace_(pace),
        sse_([this](std::string_view data) {
          if (handlers_.on_event) handlers_.on_event(data);
        }) {
    request_.method(http::verb::post);
    request_.target(target);
    request_.version(11);
    request_.set(http::field::host, HostHeader(endpoint));
    request_.set(http::field::content_type, "application/json");
    request_.set(http::field::connection, "close");
    if (!endpoint.api_key.empty())
      request_.set(http::field::authorization, "Bearer " + endpoint.api_key);
    request_.body() = std::move(body);
    request_.prepare_payload();
    parser_.body_limit(boost::none);
    buffer_.reserve(chunk_.size());  // Beast reads as much as there is room for, else 512 bytes
  }

  void Start() {
    connection_.Connect([self = shared_from_this()](std::string error) {
      if (!error.empty()) return self->End(std::move(error));
      self->connection_.SetReadPace(self->pace_);
      self->Send();
    });
  }

  void Cancel() override {
    asio::post(connection_.get_executor(),
               [self = shared_from_this()] { self->connection_.Close(); });
  }

 private:
  void Send() {
    http::async_write(connection_, request_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->End(error.message());
      http::async_read_header(self->connection_, self->buffer_, self->parser_,
                              [self](error_code failed, size_t) {
                                if (failed) return self->End(failed.message());
                                self->ReadSome();
                              });
    });
  }

  /// Takes what has arrived: the parser stops when its small body buffer is full, or when the
  /// socket has no more.
  void ReadSome() {
    parser_.get().body().data = chunk_.data();
    parser_.get().body().size = chunk_.size();
    http::async_read_some(connection_, buffer_, parser_,
                          [self = shared_from_this()](error_code error, size_t) {
                            if (error == http::error::need_buffer) error = {};
                            self->TakeBody();
                            // A server that just closes ends TLS without saying so: the framing
                            // knows what is whole.
                            if (error == asio::ssl::error::stream_truncated)
                              error = http::error::end_of_stream;
                            if (error && error != http::error::end_of_stream)
                              return self->End(error.message());
                            if (error || self->parser_.is_done()) return self->End("");
                            self->ReadSome();
                          });
  }

  void TakeBody() {
    const size_t num_bytes = chunk_.size() - parser_.get().body().size;
    if (num_bytes == 0) return;
    const std::string_view bytes(chunk_.data(), num_bytes);
    if (parser_.get().result_int() == 200) {
      sse_.Push(bytes);
    } else if (error_body_.size() < kMaxErrorBytes) {
      error_body_.append(bytes);
    }
  }

  void End(std::string error) {
    if (ended_) return;
    ended_ = true;
    connection_.Close();
    const int status = parser_.is_header_done() ? static_cast<int>(parser_.get().result_int()) : 0;
    if (handlers_.on_end) handlers_.on_end(status, error.empty() ? error_body_ : error);
  }

  static constexpr size_t kMaxErrorBytes = 64 << 10;

  Connection connection_;
  StreamHandlers handlers_;
  const ReadPace pace_;
  SseParser sse_;
  http::request<http::string_body> request_;
  http::response_parser<http::buffer_body> parser_;
  beast::flat_buffer buffer_;
  std::array<char, 16 << 10> chunk_;
  std::string error_body_;
  bool ended_ = false;
};

}  // namespace

std::shared_ptr<StreamCall> StartStream(asio::io_context& io, const Endpoint& endpoint,
                                        const std::string& target, std::string json_body,
                                        StreamHandlers handlers, ReadPace pace) {
  auto call = std::make_shared<HttpStreamCall>(io, endpoint, target, std::move(json_body),
                                               std::move(handlers), pace);
  call->Start();
  return call;
}

}  // namespace modu::client
