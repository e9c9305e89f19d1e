#include "server/generation/watchdog.h"

#include "tests/catch.h"

namespace modu::generation {
namespace {

class HandClock final : public engine::Clock {
 public:
  int64_t NowNs() const override { return now_ms * 1'000'000; }
  int64_t now_ms = 5'000;
};

TEST_CASE("a stall is noticed at the soft time, fatal at the hard time, once") {
  HandClock clock;
  engine::EngineStats stats;
  int fired = 0;
  Watchdog dog([&] { return stats; }, &clock, {100, 600}, [&] { ++fired; });
  // Idle for an hour: fine, and the old heartbeat does not count against new work.
  stats.last_step_ns = clock.NowNs();
  clock.now_ms += 3'600'000;
  dog.Check();
  CHECK(dog.Progressing());
  stats.num_running = 1;
  CHECK(dog.Progressing());
  clock.now_ms += 99;
  CHECK(dog.Progressing());
  clock.now_ms += 2;
  CHECK_FALSE(dog.Progressing());
  // A step puts it right.
  stats.last_step_ns = clock.NowNs();
  CHECK(dog.Progressing());
  clock.now_ms += 599;
  dog.Check();
  CHECK_FALSE(dog.Progressing());
  CHECK(fired == 0);
  clock.now_ms += 1;
  dog.Check();
  dog.Check();
  CHECK(fired == 1);
}

TEST_CASE("a step in flight counts from its start, and the end of work ends a stall") {
  HandClock clock;
  engine::EngineStats stats;
  Watchdog dog([&] { return stats; }, &clock, {100, 600}, [] {});
  stats.step_started_ns = clock.NowNs();
  clock.now_ms += 150;
  CHECK(dog.StalledMs() == 150);
  stats.step_started_ns = 0;
  CHECK(dog.StalledMs() == 0);
}

TEST_CASE("the thread fires by itself") {
  engine::SteadyClock clock;
  std::mutex mu;
  std::condition_variable fired;
  bool done = false;
  Watchdog dog(
      [] {
        engine::EngineStats stats;
        stats.num_waiting = 1;
        return stats;
      },
      &clock, {10, 40},
      [&] {
        std::lock_guard lock(mu);
        done = true;
        fired.notify_all();
      });
  dog.Start();
  std::unique_lock lock(mu);
  CHECK(fired.wait_for(lock, std::chrono::seconds(5), [&] { return done; }));
  lock.unlock();
  dog.Stop();
}

}  // namespace
}  // namespace modu::generation
