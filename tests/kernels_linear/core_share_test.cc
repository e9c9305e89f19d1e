// When a worker stands aside, over made-up times; and that the system's are read.
#include "kernels/cpu/core_share.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

using Milliseconds = CoreShare::Milliseconds;

/// A worker's times, told 50 ms at a time.
struct Worker {
  CoreShare share;
  CoreTime time;
  Milliseconds now{0};

  Milliseconds Look(double waited) {
    now += Milliseconds(50);
    time.wait_ns += static_cast<int64_t>(waited * 50e6);
    time.run_ns += static_cast<int64_t>((1 - waited) * 50e6);
    return share.Look(now, time);
  }
};

constexpr CoreTime kFree{30'000'000, 1'000'000}, kCrowded{15'000'000, 15'000'000};

TEST_CASE("who gets its core goes on") {
  Worker worker;
  for (int i = 0; i < 1000; ++i) REQUIRE(worker.Look(0.2) == Milliseconds(0));
}

TEST_CASE("little says nothing") {
  CoreShare share;
  // Two waits of 15 ms within a minute that was slept through.
  CHECK(share.Look(Milliseconds(30'000), {0, 15'000'000}) == Milliseconds(0));
  CHECK(share.Look(Milliseconds(60'000), {0, 30'000'000}) == Milliseconds(0));
  CHECK(share.Look(Milliseconds(60'010), {0, 45'000'000}) > Milliseconds(0));
}

TEST_CASE("who waits stands aside for longer each time, up to a bound, and less after calm") {
  Worker worker;
  const Milliseconds first = worker.Look(0.5);
  CHECK(first > CoreShare::kTrial);
  REQUIRE(worker.share.IsOfUse(worker.now, kFree));
  Milliseconds last = first;
  for (int i = 0; i < 20; ++i) {
    const Milliseconds next = worker.Look(0.5);
    REQUIRE(worker.share.IsOfUse(worker.now, kFree));
    CHECK(next >= last);
    last = next;
  }
  CHECK(last >= 8 * first);
  CHECK(last < Milliseconds(2000));
  for (int i = 0; i < 30; ++i) REQUIRE(worker.Look(0.0) == Milliseconds(0));
  CHECK(worker.Look(0.5) == first);
}

TEST_CASE("who is disturbed now and then is not away for long") {
  Worker worker;
  for (int i = 0; i < 100; ++i) {
    const Milliseconds time = worker.Look(0.5);
    if (time > Milliseconds(0)) REQUIRE(worker.share.IsOfUse(worker.now, kFree));
    CHECK(time <= Milliseconds(100));
    REQUIRE(worker.Look(0.0) == Milliseconds(0));
  }
}

TEST_CASE("nothing is known of others that hardly ran") {
  Worker worker;
  const Milliseconds first = worker.Look(0.5);
  for (const CoreTime others : {CoreTime{}, CoreTime{1'000'000, 0}, CoreTime{-50'000'000, -1}}) {
    CHECK_FALSE(worker.share.IsOfUse(worker.now, others));
    CHECK(worker.Look(0.5) == first);  // it may try again at once
  }
}

TEST_CASE("where the others wait as well, nobody stands aside for long") {
  Worker worker;
  int asides = 0;
  for (int i = 0; i < 1200; ++i) {  // a minute
    if (worker.Look(0.5) == Milliseconds(0)) continue;
    ++asides;
    REQUIRE_FALSE(worker.share.IsOfUse(worker.now, kCrowded));
  }
  CHECK(asides > 10);
  CHECK(asides < 100);  // trials of 30 ms: at most a twentieth of it
}

TEST_CASE("what a worker waited while it stood aside says nothing of when it is back") {
  Worker worker;
  const Milliseconds first = worker.Look(0.5);
  REQUIRE(first > Milliseconds(0));
  REQUIRE(worker.share.IsOfUse(worker.now, kFree));
  worker.time.wait_ns += 1'000'000'000;
  worker.share.ComeBack(worker.time);
  CHECK(worker.Look(0.1) == Milliseconds(0));
}

TEST_CASE("short turns end one by one, and all of them") {
  using Time = ShortTurns::Clock::time_point;
  const Time begin{std::chrono::hours(1)}, end = begin + Milliseconds(10);
  ShortTurns turns;
  CHECK_FALSE(turns.begun());
  CHECK_FALSE(turns.turn_is_over(end));
  CHECK_FALSE(turns.all_are_over(end));
  turns.NextTurn(begin);  // a worker that takes part has slept
  CHECK_FALSE(turns.turn_is_over(end));
  turns.Begin(begin, end);
  Time now = begin;
  for (int turn = 0; turn < 10; ++turn) {
    CHECK(turns.begun());
    CHECK_FALSE(turns.turn_is_over(now));
    CHECK(turns.turn_is_over(now + ShortTurns::kTurn));
    CHECK_FALSE(turns.all_are_over(now));
    now += ShortTurns::kTurn + ShortTurns::kPause;
    turns.NextTurn(now);
  }
  CHECK(turns.all_are_over(end));
  turns.End();
  CHECK_FALSE(turns.turn_is_over(end));
  CHECK_FALSE(turns.all_are_over(end));
}

TEST_CASE("a thread's time on its core is read, and nothing of one that there is not") {
  long long run = 0;
  if (!(std::ifstream("/proc/thread-self/schedstat") >> run) || run == 0) {
    WARN("the system does not say");
    return;
  }
  const auto self = static_cast<pid_t>(syscall(SYS_gettid));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (ReadCoreTime(self).run_ns <= run && std::chrono::steady_clock::now() < end) {
  }
  CHECK(ReadCoreTime(self).run_ns > run);
  CHECK(ReadCoreTime(-1).wanted_ns() == 0);
}

}  // namespace
}  // namespace modu::kernels::cpu
