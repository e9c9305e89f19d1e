#include "server/grpc/acceptor/connection_acceptor.h"

#include <sys/socket.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/catch.h"
#include "tests/http/descriptor_limit.h"
#include "tests/http/raw_client.h"
#include "tests/http/scripted_generator.h"

namespace modu::testing {
namespace {

using grpc_door::ConnectionAcceptor;

/// Greets whom it is given, and keeps the connection.
class Greeter {
 public:
  explicit Greeter(int first_reserved_descriptor = INT_MAX) : acceptor_(first_reserved_descriptor) {
    REQUIRE(acceptor_.Listen("127.0.0.1", 0).ok());
    acceptor_.Start([this](int, int connection) {
      std::lock_guard lock(mutex_);
      connections_.push_back(connection);
      (void)!::write(connection, "hello", 5);
    });
  }
  ~Greeter() {
    acceptor_.Stop();
    for (int connection : connections_) ::close(connection);
  }
  size_t greeted() {
    std::lock_guard lock(mutex_);
    return connections_.size();
  }
  ConnectionAcceptor& acceptor() { return acceptor_; }
  int port() const { return acceptor_.port(); }

 private:
  std::mutex mutex_;
  std::vector<int> connections_;
  ConnectionAcceptor acceptor_;  // last: its thread uses the others
};

}  // namespace

TEST_CASE("each connection is handed over once, until Stop") {
  Greeter greeter;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(std::make_unique<RawClient>(greeter.port()));
  for (auto& client : clients) CHECK(client->ReadUntil("hello") == "hello");
  CHECK(greeter.greeted() == clients.size());
  CHECK(greeter.acceptor().refused_total() == 0);
  const int port = greeter.port();
  greeter.acceptor().Stop();
  greeter.acceptor().Stop();  // again does nothing
  RawClient late(port);
  CHECK(late.ReadUntil("hello", 200).empty());
  CHECK(greeter.greeted() == clients.size());
}

TEST_CASE("a connection that would take a reserved descriptor is closed and counted") {
  const int next_free = ::dup(0);
  ::close(next_free);
  Greeter greeter(next_free);  // its own descriptors have taken that number already
  RawClient client(greeter.port());
  CHECK(client.ReadAll().empty());
  CHECK(client.closed_by_server());
  CHECK(greeter.greeted() == 0);
  CHECK(greeter.acceptor().refused_total() == 1);
}

TEST_CASE("without descriptors the acceptor waits, and accepts when there are some") {
  Greeter greeter;
  NoDescriptors none;
  RawClient client(greeter.port());
  const bool connected = client.connected();
  const std::string too_early = client.ReadUntil("hello", 300);
  none.Free();
  REQUIRE(none.filled());
  REQUIRE(connected);
  CHECK(too_early.empty());
  CHECK(client.ReadUntil("hello") == "hello");
  CHECK(greeter.acceptor().refused_total() == 0);
}

TEST_CASE("Stop does not wait for descriptors") {
  Greeter greeter;
  NoDescriptors none;
  RawClient client(greeter.port());
  greeter.acceptor().Stop();
  none.Free();
  CHECK(greeter.greeted() == 0);
}

TEST_CASE("where it cannot listen it says why") {
  ConnectionAcceptor acceptor(INT_MAX);
  CHECK(acceptor.Listen("example", 0).message() == "\"example\" is not an IP address");
  Greeter other;
  const absl::Status taken = acceptor.Listen("127.0.0.1", other.port());
  CHECK(taken.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(taken.message()).find("cannot listen on 127.0.0.1") == 0);
  CHECK(acceptor.Listen("localhost", 0).ok());  // and can be asked again
  CHECK(acceptor.port() != 0);
}

}  // namespace modu::testing
