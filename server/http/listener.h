// Accepts connections for one site and hands each to an I/O thread, in turn. Out of descriptors it
// pauses and tries again: what is connected goes on. Runs on the first I/O thread; Close may be
// posted there.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/steady_timer.hpp"
#include "server/http/connection_gate.h"
#include "server/http/site.h"

namespace modu::http {

/// Whether Listener::Bind would do, with its errors; the port is free again afterwards.
absl::Status CheckCanListen(const std::string& host, int port);

class Listener {
 public:
  /// contexts[0] runs the listener. All pointers outlive it.
  Listener(std::vector<boost::asio::io_context*> contexts, boost::asio::ssl::context* tls,
           Site* site, ConnectionGate* gate);

  /// kInvalidArgument: not an address. kUnavailable: in use or not ours; the message names host and
  /// port.
  absl::Status Bind(const std::string& host, int port);
  int port() const;
  void Start() { Accept(); }
  void Close();

 private:
  void Accept();
  void OnAccepted(boost::asio::ip::tcp::socket socket, boost::asio::io_context* context);

  const std::vector<boost::asio::io_context*> contexts_;
  boost::asio::ssl::context* const tls_;
  Site* const site_;
  ConnectionGate* const gate_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  size_t next_ = 0;
};

}  // namespace modu::http
