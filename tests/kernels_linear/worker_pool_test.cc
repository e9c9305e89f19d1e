// The pool's promises: every unit exactly once, whoever claims it; late workers claim nothing;
// denormals are zero inside a job and not outside; idle workers use no CPU.
#include "kernels/cpu/worker_pool.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// A machine that says nothing of its cores, so that all workers take part however busy it is.
CoreTime Unknown(pid_t) { return {}; }

/// A machine on which each worker that asks has waited for its core, and the others have theirs:
/// all but the caller stand aside, one after the other, and work in turns.
CoreTime AskerWaits(pid_t thread) {
  static std::atomic<int64_t> looks;
  const int64_t ns = 50'000'000 * ++looks;
  if (thread == static_cast<pid_t>(syscall(SYS_gettid))) return {ns / 2, ns / 2};
  return {ns, 0};
}

TEST_CASE("every unit of a job runs exactly once, at any size and grain") {
  const bool patient = GENERATE(false, true);
  const auto core_time = GENERATE(Unknown, AskerWaits);
  for (int threads : {1, 2, 3, 7}) {
    WorkerPool pool(threads, core_time);
    pool.SetPatient(patient);
    REQUIRE(pool.size() == threads);
    std::mt19937 random(1);
    // On a busy machine a job costs a scheduler's slice when a worker loses its core: by the clock.
    // And turns begin after a trial of 30 ms.
    const bool in_turns = core_time == AskerWaits;
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(in_turns ? 250 : 800);
    const auto goes_on = [&](int job) {
      if (job < 20) return true;
      return (in_turns || job < 2000) && std::chrono::steady_clock::now() < end;
    };
    for (int job = 0; goes_on(job); ++job) {
      const int units = static_cast<int>(random() % 70);
      const int grain = 1 + static_cast<int>(random() % 5);
      std::vector<std::atomic<int>> ran(static_cast<size_t>(units));
      std::atomic<bool> in_bounds{true};
      pool.Run(units, grain, [&](int first, int last, int worker) {
        if (worker < 0 || worker >= threads || last - first > grain || first >= last) {
          in_bounds = false;
        }
        for (int i = first; i < last; ++i) ran[static_cast<size_t>(i)].fetch_add(1);
      });
      bool once = true;
      for (auto& count : ran) once = once && count.load() == 1;
      REQUIRE(once);
      REQUIRE(in_bounds);
    }
  }
}

TEST_CASE("workers that wake late from one job leave the next one alone") {
  // Small jobs before large ones, workers delayed at random: a late worker must never mistake the
  // next job's size for units that its own job has left.
  WorkerPool pool(6, Unknown);
  std::mt19937 random(2);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  for (int job = 0; job < 30000 && (job < 50 || std::chrono::steady_clock::now() < end); ++job) {
    const int units = job % 2 == 0 ? 2 : 500;
    std::atomic<int> ran{0};
    std::atomic<bool> in_bounds{true};
    const unsigned delay = random() % 200;
    pool.Run(units, 1, [&](int first, int last, int worker) {
      if (first < 0 || last > units) in_bounds = false;
      if (worker == 1) {
        for (unsigned i = 0; i < delay; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
      }
      ran.fetch_add(last - first);
    });
    REQUIRE(ran == units);
    REQUIRE(in_bounds);
  }
}

TEST_CASE("jobs after a pause wake sleeping workers, and plain writes are seen afterwards") {
  WorkerPool pool(4, Unknown);
  std::vector<int> out(64);
  for (int round = 1; round <= 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 3));
    pool.Run(64, 1, [&](int first, int last, int) {
      for (int i = first; i < last; ++i) out[static_cast<size_t>(i)] = round * i;
    });
    for (int i = 0; i < 64; ++i) REQUIRE(out[static_cast<size_t>(i)] == round * i);
  }
}

TEST_CASE("another worker takes over what a slow one leaves, few units only after a moment") {
  const bool patient = GENERATE(false, true);
  WorkerPool pool(2);
  pool.SetPatient(patient);
  std::atomic<int> taken_from_home_of_0{0};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  pool.Run(40, 1, [&](int first, int, int worker) {
    if (worker == 1 && first < 20) taken_from_home_of_0.fetch_add(1);
    while (worker == 0 && taken_from_home_of_0 <= 10 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  CHECK(taken_from_home_of_0 > 10);
  // Of a range of two the owner is stuck in the first until the last, of which a patient worker
  // waits for its owner, is taken.
  std::atomic<int> few_taken{0};
  pool.Run(4, 1, [&](int first, int, int worker) {
    if (worker == 1 && first < 2) few_taken.fetch_add(1);
    while (worker == 0 && few_taken < 1 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  CHECK(few_taken >= 1);
}

/// A machine on which every worker waits for its core, but for the caller.
namespace crowded {
using Time = std::chrono::steady_clock::time_point;
std::atomic<pid_t> caller;
std::atomic<int> looks_at_caller, looks_at_worker, looks_before_turns;
std::atomic<Time> first_look, second_look;

CoreTime Of(pid_t thread) {
  static std::atomic<int64_t> looks;
  const int64_t ns = 50'000'000 * ++looks;
  if (thread != caller) {
    ++looks_at_worker;
    return {ns / 2, ns / 2};
  }
  // Asked by the worker that stands aside: before its trial and after it.
  const int look = looks_at_caller + 1;
  if (look == 1) first_look = std::chrono::steady_clock::now();
  if (look == 2) second_look = std::chrono::steady_clock::now();
  if (look % 2 == 0) looks_before_turns = looks_at_worker.load();
  looks_at_caller = look;
  return {ns, 0};
}

/// Worker 1's first unit after the first look, and its units in turns: before it looks at itself
/// for the first time after a trial.
std::atomic<Time> first_unit;
std::atomic<int> units_in_turns;

/// Runs jobs until `happens`, at most 20 s.
template <typename Condition>
bool RunUntil(WorkerPool& pool, const Condition& happens) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!happens() && std::chrono::steady_clock::now() < end) {
    std::vector<int> out(16, -1);
    pool.Run(16, 1, [&](int first, int last, int worker) {
      for (int i = first; i < last; ++i) out[static_cast<size_t>(i)] = i;
      Time none{};
      if (worker == 1 && looks_at_caller > 0) {
        first_unit.compare_exchange_strong(none, std::chrono::steady_clock::now());
        const bool is_in_turns = looks_at_caller % 2 == 0 && looks_at_worker == looks_before_turns;
        if (is_in_turns) ++units_in_turns;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    });
    for (int i = 0; i < 16; ++i) REQUIRE(out[static_cast<size_t>(i)] == i);
  }
  return happens();
}
}  // namespace crowded

TEST_CASE("a worker without a core does nothing for a moment, then works in turns") {
  crowded::caller = static_cast<pid_t>(syscall(SYS_gettid));
  crowded::looks_at_caller = 0;
  crowded::units_in_turns = 0;
  crowded::looks_at_worker = 0;
  crowded::first_unit = crowded::Time{};
  WorkerPool pool(2, crowded::Of);
  REQUIRE(crowded::RunUntil(pool, [] { return crowded::looks_at_caller >= 2; }));
  CHECK(crowded::second_look.load() - crowded::first_look.load() >= CoreShare::kTrial);
  REQUIRE(crowded::RunUntil(pool, [] { return crowded::first_unit.load() > crowded::Time{}; }));
  CHECK(crowded::first_unit.load() - crowded::first_look.load() >= CoreShare::kTrial);
  REQUIRE(crowded::RunUntil(pool, [] { return crowded::units_in_turns > 0; }));
  // It comes back, and stands aside again: the pool ends in the midst of its trial.
  REQUIRE(crowded::RunUntil(pool, [] { return crowded::looks_at_caller % 2 == 1; }));
}

TEST_CASE("denormals are zero in every worker's jobs and left alone outside") {
  WorkerPool pool(2);
  volatile float tiny = 1e-38f;
  std::vector<float> products(64, 1.0f);
  pool.Run(64, 1,
           [&](int first, int, int) { products[static_cast<size_t>(first)] = tiny * 0.01f; });
  for (float product : products) REQUIRE(product == 0.0f);
  const volatile float outside = tiny * 0.01f;
  CHECK(outside > 0.0f);
}

TEST_CASE("what is ahead is only fetched: it may be gone, and change while workers wait") {
  WorkerPool pool(3, Unknown);
  const std::vector<std::byte> there(300'000);
  for (int i = 0; i < 300; ++i) {
    const int sharers = 1 + i % 2 * 2;
    if (i % 3 == 0) pool.FetchWhenIdle(there.data(), there.size(), sharers);
    if (i % 3 == 1) {
      pool.FetchWhenIdle(reinterpret_cast<const std::byte*>(4096 * i), 1 << 20, sharers);
    }
    if (i % 3 == 2) pool.FetchWhenIdle(nullptr, 0, sharers);
    std::atomic<int> sum{0};
    pool.Run(7, 1, [&](int first, int last, int) { sum += last - first; });
    CHECK(sum == 7);
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
}

TEST_CASE("idle workers use no CPU") {
  WorkerPool pool(4);
  pool.Run(64, 1, [](int, int, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = ProcessCpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK(ProcessCpuSeconds() - before < 0.03);
}

TEST_CASE("scratch is aligned and kept apart by worker") {
  WorkerPool pool(3);
  pool.ReserveScratch(1000);
  CHECK(pool.scratch_bytes() >= 1000);
  for (int worker = 0; worker < 3; ++worker) {
    CHECK(reinterpret_cast<uintptr_t>(pool.scratch(worker)) % 64 == 0);
    for (int other = 0; other < worker; ++other) CHECK(pool.scratch(worker) != pool.scratch(other));
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
