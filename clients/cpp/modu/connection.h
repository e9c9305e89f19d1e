// One connection to a server, plain or TLS: resolve, connect, handshake; then a stream for Beast's
// operations. Asynchronous on the caller's io_context; holds nothing once closed.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "clients/cpp/modu/endpoint.h"

namespace modu::client {

class Connection {
 public:
  using Tcp = boost::asio::ip::tcp;
  using executor_type = Tcp::socket::executor_type;

  Connection(boost::asio::io_context& io, Endpoint endpoint);

  /// `done` gets "" or why not. The connection must live until then.
  void Connect(std::function<void(std::string error)> done);
  void Close();

  executor_type get_executor() { return socket_.get_executor(); }
  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
    }
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) {
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    } else {
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
    }
  }

 private:
  void Handshake(const std::function<void(std::string)>& done);

  Endpoint endpoint_;
  Tcp::resolver resolver_;
  Tcp::socket socket_;
  std::optional<boost::asio::ssl::context> context_;
  std::optional<boost::asio::ssl::stream<Tcp::socket&>> tls_;
};

}  // namespace modu::client
