// Accepts gRPC's connections in the library's place, whose own listener ends for good with the
// first connection for which there is no descriptor (seen with 1.51). One thread; Listen, Start and
// Stop are the owner's.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"

struct addrinfo;

namespace modu::grpc_door {

class ConnectionAcceptor {
 public:
  /// Takes `connection` over. On the acceptor's thread.
  using OnConnection = std::function<void(int listener, int connection)>;

  /// A connection that gets this descriptor or a higher one is closed at once.
  explicit ConnectionAcceptor(int first_reserved_descriptor)
      : first_reserved_descriptor_(first_reserved_descriptor) {}
  ~ConnectionAcceptor() { Stop(); }
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;
  ConnectionAcceptor& operator=(const ConnectionAcceptor&) = delete;

  /// `host`: an IP address, "localhost" or "*"; `port` 0: any. kInvalidArgument: no address.
  /// kUnavailable: the port cannot be had.
  absl::Status Listen(const std::string& host, int port);
  int port() const { return port_; }
  void Start(OnConnection on_connection);
  /// No connection is handed over after it.
  void Stop();
  /// Connections closed at once because only reserved descriptors were left. Any thread.
  int64_t refused_total() const { return refused_total_; }

 private:
  bool Open(const addrinfo& address);
  void Run();
  bool WaitForStop(int milliseconds);

  const int first_reserved_descriptor_;
  int listener_ = -1, stop_event_ = -1, port_ = 0;
  std::atomic<int64_t> refused_total_{0};
  OnConnection on_connection_;
  std::thread thread_;
};

}  // namespace modu::grpc_door
