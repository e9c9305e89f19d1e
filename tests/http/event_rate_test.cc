// What one-token events cost the door: run by hand with [.rate]. Reports events a second of process
// CPU time over one I/O thread, rendering included; the client's reading is in the same process and
// counted too.
#include <ctime>
#include <iostream>
#include <thread>

#include "server/api/response_json.h"
#include "tests/catch.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {

TEST_CASE("event rate", "[.rate]") {
  api::Limits limits;
  limits.stream_buffer_events = 1 << 20;
  limits.stream_buffer_bytes = 1 << 30;
  RunningServer running(limits);
  constexpr int kEvents = 200'000;
  Script script;
  script.num_deltas = kEvents / 16;
  running.generator.Set(script);
  std::vector<std::unique_ptr<RawClient>> clients;
  const std::clock_t before = std::clock();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::make_unique<RawClient>(running.port()));
    clients.back()->Send(PostJson("/v1/chat/completions", kChatStream));
  }
  for (auto& client : clients)
    CHECK(client->ReadUntil("[DONE]", 60'000).find("[DONE]") != std::string::npos);
  const double cpu = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  const double wall =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << kEvents / cpu << " events per CPU second, " << kEvents / wall << " per second\n";
}

}  // namespace modu::testing
