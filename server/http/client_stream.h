// A client's byte stream, plain or TLS, chosen when the connection is made: so that a session is
// one class and not a template, and Asio's operations are compiled once. One I/O thread, that of
// the socket; each operation ends with its `done` there, and the caller sees to it that the stream
// and the bytes live until then.
#pragma once
#include <array>
#include <cstddef>
#include <functional>
#include <memory>

#include "boost/asio/buffer.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"

namespace modu::http {

class ClientStream {
 public:
  using Tcp = boost::asio::ip::tcp;
  using Done = std::function<void(boost::system::error_code error)>;
  using ReadDone = std::function<void(boost::system::error_code error, std::size_t bytes)>;
  using Parts = std::array<boost::asio::const_buffer, 3>;  // any of them may be empty

  /// `tls` null: plain text; it outlives the stream.
  ClientStream(Tcp::socket socket, boost::asio::ssl::context* tls);
  ClientStream(ClientStream&&) noexcept;
  ~ClientStream();

  bool is_tls() const { return tls_ != nullptr; }
  Tcp::socket& socket();
  Tcp::socket::executor_type executor() { return socket().get_executor(); }

  void ReadSome(boost::asio::mutable_buffer into, ReadDone done);
  /// What the client takes at once, without waiting: bytes written, 0 also where only Write can
  /// tell what is wrong. With TLS always 0.
  std::size_t WriteSome(const Parts& parts);
  /// All of it, or an error.
  void Write(const Parts& parts, Done done);
  void Handshake(Done done);  // TLS only
  void Shutdown(Done done);   // TLS only

  /// Whether a read's error says that the client has ended its sending side.
  static bool IsEnd(boost::system::error_code error);

 private:
  struct Plain;
  struct Tls;
  std::unique_ptr<Plain> plain_;  // one of the two
  std::unique_ptr<Tls> tls_;
};

}  // namespace modu::http
