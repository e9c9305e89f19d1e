// Running out of file descriptors, and very many idle connections.
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/http/descriptor_limit.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {
namespace {

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

TEST_CASE("out of descriptors the server goes on and recovers by itself") {
  RunningServer running;
  RawClient connected(running.port());
  const std::string request = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
  connected.Send(request);
  REQUIRE(StatusOf(connected.ReadAnswer()) == 200);
  NoDescriptors none;
  RawClient late(running.port());
  const bool connects = late.connected() && late.Send(request);
  const std::string too_early = late.ReadUntil("\r\n\r\n", 300);
  connected.Send(request);
  const std::string meanwhile = connected.ReadAnswer();
  none.Free();
  REQUIRE(none.filled());
  REQUIRE(connects);
  CHECK(too_early.empty());
  CHECK(StatusOf(meanwhile) == 200);
  CHECK(StatusOf(late.ReadAnswer()) == 200);
}

TEST_CASE("memory of idle connections", "[.idle]") {
  DescriptorLimit limit(21'000);
  api::Limits limits;
  limits.max_connections = limits.max_connections_per_address = 10'000;
  RunningServer running(limits);
  const size_t count = std::min<size_t>(10'000, (limit.limit() - 100) / 2);
  const int64_t before = ResidentBytes();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < count; ++i) clients.push_back(std::make_unique<RawClient>(running.port()));
  CHECK(ScriptedGenerator::Eventually(
      [&] { return running.server->counters().connections == static_cast<int64_t>(count); }));
  std::cout << count << " idle connections, "
            << (ResidentBytes() - before) / static_cast<int64_t>(count)
            << " bytes each, the client's object included\n";
  clients.pop_back();
  CHECK(ScriptedGenerator::Eventually([&] { return StatusOf(running.Get("/livez")) == 200; }));
}

}  // namespace modu::testing
