// One connection to a server, plain or TLS: resolve, connect, handshake; then a stream for Beast's
// operations. Asynchronous on the caller's io_context; holds nothing once closed. Handlers are
// erased here, so that Beast's operations are compiled for one stream and not for two wherever one
// is used; they run on the io_context, whatever executor they bring.
#pragma once
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "clients/cpp/modu/endpoint.h"
#include "clients/cpp/modu/read_pace.h"

namespace modu::client {

class Connection {
 public:
  using Tcp = boost::asio::ip::tcp;
  using executor_type = Tcp::socket::executor_type;

  Connection(boost::asio::io_context& io, Endpoint endpoint);

  /// `done` gets "" or why not, once. The connection must live until then. Not again after Close.
  void Connect(std::function<void(std::string error)> done);
  /// Once connected.
  void SetReadPace(const ReadPace& pace);
  void Close();

  executor_type get_executor() { return socket_.get_executor(); }
  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    ReadPaced(Gather<boost::asio::mutable_buffer>(buffers), Erase(std::forward<Handler>(handler)));
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    WriteSome(Gather<boost::asio::const_buffer>(buffers), Erase(std::forward<Handler>(handler)));
  }

 private:
  using Done = std::function<void(boost::system::error_code error, std::size_t bytes)>;

  template <typename Handler>
  static Done Erase(Handler&& handler) {  // Beast's handlers can be moved, std::function copies
    auto shared = std::make_shared<std::decay_t<Handler>>(std::forward<Handler>(handler));
    return [shared](boost::system::error_code error, std::size_t bytes) {
      std::move (*shared)(error, bytes);
    };
  }
  template <typename Buffer, typename Buffers>
  static std::vector<Buffer> Gather(const Buffers& buffers) {
    return {boost::asio::buffer_sequence_begin(buffers), boost::asio::buffer_sequence_end(buffers)};
  }
  void ReadPaced(std::vector<boost::asio::mutable_buffer> buffers, Done done);
  void ReadSome(const std::vector<boost::asio::mutable_buffer>& buffers, Done done);
  void WriteSome(const std::vector<boost::asio::const_buffer>& buffers, Done done);
  void Handshake(const std::function<void(std::string)>& done);

  bool closed_ = false;
  Endpoint endpoint_;
  Tcp::resolver resolver_;
  Tcp::socket socket_;
  boost::asio::steady_timer timer_;
  std::chrono::milliseconds read_pause_{0};
  std::optional<boost::asio::ssl::context> context_;
  std::optional<boost::asio::ssl::stream<Tcp::socket&>> tls_;
};

}  // namespace modu::client
