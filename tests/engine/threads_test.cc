// The engine on its own thread, under many callers. Meant for ThreadSanitizer as much as for its
// checks.
#include <atomic>
#include <condition_variable>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/engine.h"
#include "tests/catch.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

class CountingSink final : public EventSink {
 public:
  void Deliver(StepEvents events) override {
    const std::lock_guard lock(mutex);
    for (const TokenEvent& event : events.tokens) tokens[event.request].push_back(event.token_id);
    for (const TerminalEvent& event : events.terminals) {
      ++terminals[event.request];
      reasons[event.request] = event.reason;
    }
    changed.notify_all();
  }
  bool WaitFor(size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(30),
                            [&] { return terminals.size() >= count; });
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::map<RequestId, std::vector<int32_t>> tokens;
  std::map<RequestId, int> terminals;
  std::map<RequestId, FinishReason> reasons;
};

RunnerSpec Spec() {
  RunnerSpec spec;
  spec.groups = {{"full", 8, 60, 0}};
  spec.vocab_size = 500;
  spec.max_model_len = 100;
  spec.max_batch_tokens = 64;
  spec.max_sequences = 16;
  return spec;
}

Request RequestOf(RequestId id, int prompt, int max_tokens) {
  Request request;
  request.id = id;
  for (int i = 0; i < prompt; ++i)
    request.prompt_ids.push_back((static_cast<int>(id) * 7 + i) % 500);
  request.sampling.max_tokens = max_tokens;
  return request;
}

TEST_CASE("Many threads submit and cancel; each request ends once and is answered right") {
  SteadyClock clock;
  CountingSink sink;
  auto owned = std::make_unique<FakeRunner>(Spec(), 2);
  FakeRunner* runner = owned.get();
  Engine engine(std::move(owned), {}, &clock, &sink);
  engine.Start();
  constexpr int kThreads = 6, kEach = 60;
  std::vector<std::vector<Request>> sent(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        Request request = RequestOf(static_cast<RequestId>(t * 1000 + i), 1 + i % 30, 1 + i % 20);
        sent[t].push_back(request);
        const bool cancel = i % 5 == 0;
        if (!engine.Submit(std::move(request)).ok()) std::abort();
        if (cancel) engine.Cancel(static_cast<RequestId>(t * 1000 + i));
        if (i % 7 == 0) (void)engine.Stats();
        if (i % 10 == 0) std::this_thread::yield();
      }
    });
  }
  std::atomic<bool> over{false};
  std::thread reader([&] {
    while (!over) {
      const EngineStats stats = engine.Stats();
      if (stats.blocks_free + stats.blocks_cached + stats.blocks_held != stats.blocks_total)
        std::abort();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  for (std::thread& thread : threads) thread.join();
  CHECK(sink.WaitFor(kThreads * kEach));
  over = true;
  reader.join();
  engine.Stop();
  CHECK(engine.Submit(RequestOf(99999, 3, 3)).code() == absl::StatusCode::kUnavailable);
  for (const auto& requests : sent) {
    for (const Request& request : requests) {
      INFO("request " << request.id);
      CHECK(sink.terminals[request.id] == 1);
      if (sink.reasons[request.id] == FinishReason::kCancelled) continue;
      CHECK(sink.tokens[request.id] == FakeRunner::Answer(Spec(), request));
    }
  }
  CHECK(runner->violations == std::vector<std::string>{});
  CHECK(engine.Stats().blocks_held == 0);
}

TEST_CASE("Stop while callers still submit: what was taken ends, what was not is refused") {
  for (int round = 0; round < 10; ++round) {
    SteadyClock clock;
    CountingSink sink;
    Engine engine(std::make_unique<FakeRunner>(Spec(), 1 + round % 2), {}, &clock, &sink);
    engine.Start();
    std::atomic<int> taken{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          const absl::Status status =
              engine.Submit(RequestOf(static_cast<RequestId>(t * 1000 + i), 4, 60));
          if (status.ok()) ++taken;
          if (!status.ok() && status.code() != absl::StatusCode::kUnavailable) std::abort();
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::microseconds(round * 300));
    std::thread other([&] { engine.Stop(); });
    engine.Stop();
    other.join();
    for (std::thread& thread : threads) thread.join();
    CHECK(static_cast<int>(sink.terminals.size()) == taken);
    for (const auto& [id, count] : sink.terminals) CHECK(count == 1);
  }
}

TEST_CASE("An idle engine uses no CPU") {
  SteadyClock clock;
  CountingSink sink;
  Engine engine(std::make_unique<FakeRunner>(Spec(), 2), {}, &clock, &sink);
  engine.Start();
  REQUIRE(engine.Submit(RequestOf(1, 5, 5)).ok());
  REQUIRE(sink.WaitFor(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  timespec before{}, after{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  const double used_ms = static_cast<double>(after.tv_sec - before.tv_sec) * 1e3 +
                         static_cast<double>(after.tv_nsec - before.tv_nsec) / 1e6;
  CHECK(used_ms < 5);
}

}  // namespace
}  // namespace modu::engine
