#include "kernels/cpu/worker_pool.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <new>
#include <utility>

#include "kernels/check.h"

namespace modu::kernels::cpu {
namespace {

// A futex wake costs about 36 us, so a step's ops must find the workers spinning; the gap between
// two steps (scheduling, sampling) should too.
constexpr std::chrono::microseconds kSpinBeforeSleep{150};
// About 50 us of pause; then a missing worker has probably lost its core. The caller sleeps rather
// than yields: only an idle core makes the system move the worker there at once.
constexpr int kSpinsBeforeWait = 2000;
// What a patient worker leaves to its owner, and for how long: about 10 us. Workers with caches far
// from each other took one unit in eight from each other's ranges
// (benchmarks/results/2026-11-30-zen4-far-workers.md).
constexpr int kFewOfRange = 8;
constexpr int kPatience = 400;
// What a worker's core does is read so often: it costs a few us.
constexpr std::chrono::milliseconds kLookEvery{10};

pid_t ThreadId() {
  thread_local const auto id = static_cast<pid_t>(syscall(SYS_gettid));
  return id;
}

CoreShare::Milliseconds Now() {
  return std::chrono::duration_cast<CoreShare::Milliseconds>(
      std::chrono::steady_clock::now().time_since_epoch());
}

template <typename T>
void FutexWait(std::atomic<T>* word, T expected) {
  static_assert(sizeof(*word) == sizeof(uint32_t));
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

template <typename T>
void FutexWakeAll(std::atomic<T>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Of a share: leaves room in L2 for what is in hand; and about what the worker's last strip has
// fetched of it, a strip's bytes.
constexpr size_t kMostAhead = size_t{384} << 10;
constexpr size_t kFetchedAlready = size_t{20} << 10;

/// Flushes denormal results and reads denormal operands as zero while it lives.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  const unsigned saved_;
};

}  // namespace

WorkerPool::WorkerPool(int num_threads, CoreTime (*core_time)(pid_t thread))
    : num_threads_(std::max(1, num_threads)),
      core_time_(core_time),
      claims_(new Claims[static_cast<size_t>(std::max(1, num_threads))]),
      scratch_(static_cast<size_t>(std::max(1, num_threads))),
      thread_ids_(new std::atomic<pid_t>[static_cast<size_t>(std::max(1, num_threads))] {}) {
  for (int worker = 1; worker < num_threads_; ++worker) {
    threads_.emplace_back([this, worker] { WorkerMain(worker); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(aside_mutex_);
    stop_.store(true, std::memory_order_relaxed);
  }
  stops_.notify_all();
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  FutexWakeAll(&epoch_);
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::ReserveScratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  scratch_bytes_ = (bytes + 63) / 64 * 64;
  for (auto& scratch : scratch_) {
    scratch.reset(static_cast<std::byte*>(::operator new[](scratch_bytes_, std::align_val_t{64})));
  }
}

void WorkerPool::Launch(int units, int grain, Function function, void* context) {
  if (units <= 0) return;
  grain = std::max(1, grain);
  if (num_threads_ == 1 || units <= grain) {  // nothing to share: no other worker hears of it
    TellAhead();
    FlushDenormals flush;
    for (int first = 0; first < units; first += grain) {
      function(context, first, std::min(units, first + grain), 0);
    }
    return;
  }
  thread_ids_[0].store(ThreadId(), std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  for (int worker = 0; worker < num_threads_; ++worker) {
    const auto left = static_cast<uint32_t>(HomeEnd(units, worker) - HomeEnd(units, worker - 1));
    claims_[static_cast<size_t>(worker)].left.store(uint64_t{epoch} << 32 | left,
                                                    std::memory_order_release);
  }
  // Last, all of it at once: workers that look for the number take the line away.
  units_.store(units, std::memory_order_relaxed);
  grain_.store(grain, std::memory_order_relaxed);
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  TellAhead();
  // Both sides of "new job" and "someone sleeps" are sequentially consistent: one sees the other.
  epoch_.store(epoch, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) FutexWakeAll(&epoch_);
  {
    FlushDenormals flush;
    Work(epoch, 0, {});
  }
  for (int spins = 0; spins < kSpinsBeforeWait;) {
    if (done_.load(std::memory_order_acquire) == units) return;
    if (Fetch(0, &fetched_)) continue;  // not for long: a share ends
    _mm_pause();
    ++spins;
  }
  caller_waits_.store(true, std::memory_order_seq_cst);
  for (;;) {
    const int done = done_.load(std::memory_order_seq_cst);
    if (done == units) break;
    FutexWait(&done_, done);
  }
  caller_waits_.store(false, std::memory_order_relaxed);
}

void WorkerPool::TellAhead() {
  if (ahead_.load(std::memory_order_relaxed) == next_ahead_.data() &&
      sharers_.load(std::memory_order_relaxed) == next_sharers_) {
    return;
  }
  ahead_bytes_.store(next_ahead_.size(), std::memory_order_relaxed);
  sharers_.store(next_sharers_, std::memory_order_relaxed);
  ahead_.store(next_ahead_.data(), std::memory_order_relaxed);
}

bool WorkerPool::Fetch(int worker, Fetched* fetched) const {
  const std::byte* const ahead = ahead_.load(std::memory_order_relaxed);
  if (ahead != fetched->of) {
    const size_t all = ahead == nullptr ? 0 : ahead_bytes_.load(std::memory_order_relaxed);
    const int sharers = sharers_.load(std::memory_order_relaxed);
    const size_t share = all / static_cast<size_t>(sharers);
    const std::byte* const begin = ahead + share * static_cast<size_t>(worker % sharers);
    fetched->of = ahead;
    fetched->next = begin + std::min(share, kFetchedAlready);
    fetched->end = begin + std::min(share, kMostAhead);
  }
  if (fetched->next >= fetched->end) return false;
  for (int line = 0; line < 2; ++line, fetched->next += 64) {
    __builtin_prefetch(fetched->next, 0, 2);
  }
  return true;
}

int WorkerPool::HomeEnd(int units, int worker) const {
  return static_cast<int>(int64_t{units} * (worker + 1) / num_threads_);
}

bool WorkerPool::Work(uint32_t epoch, int worker, const ShortTurns& turns) {
  const int units = units_.load(std::memory_order_relaxed);
  const int grain = grain_.load(std::memory_order_relaxed);
  const Function function = function_.load(std::memory_order_relaxed);
  void* const context = context_.load(std::memory_order_relaxed);
  bool patient = patient_.load(std::memory_order_relaxed);
  int finished = 0;
  bool turn_is_over = false;
  for (int visit = 0; visit < num_threads_ && !turn_is_over; ++visit) {
    const int home = (worker + visit) % num_threads_;
    std::atomic<uint64_t>& left = claims_[static_cast<size_t>(home)].left;
    uint64_t claim = left.load(std::memory_order_relaxed);
    const auto others = static_cast<int>(static_cast<uint32_t>(claim));
    if (patient && visit > 0 && others > 0 && others <= units / num_threads_ / kFewOfRange + 1) {
      WaitForOwners(epoch, units, finished);
      claim = left.load(std::memory_order_relaxed);
      patient = false;
    }
    for (;;) {
      if (static_cast<uint32_t>(claim >> 32) != epoch) return true;  // it has ended: none was ours
      const auto units_left = static_cast<int>(static_cast<uint32_t>(claim));
      if (units_left == 0) break;
      // Ever smaller ones, so that workers end together.
      const int count = std::clamp(units_left / 4, 1, grain);
      // A claim that succeeds proves that job `epoch` still ran when it did, so that what was read
      // above is its. (Whether units are left must not be worked out from what was read above.)
      if (!left.compare_exchange_weak(claim, claim - static_cast<uint64_t>(count),
                                      std::memory_order_acq_rel, std::memory_order_relaxed)) {
        continue;
      }
      const int first = HomeEnd(units, home) - units_left;
      function(context, first, first + count, worker);
      finished += count;
      turn_is_over = turns.begun() && turns.turn_is_over(ShortTurns::Clock::now());
      if (turn_is_over) break;
      claim = left.load(std::memory_order_relaxed);
    }
  }
  if (finished == 0) return true;
  const int before = done_.fetch_add(finished, std::memory_order_seq_cst);
  if (before + finished == units && caller_waits_.load(std::memory_order_seq_cst)) {
    FutexWakeAll(&done_);
  }
  return !turn_is_over;
}

void WorkerPool::WaitForOwners(uint32_t epoch, int units, int finished) const {
  for (int i = 0; i < kPatience && epoch_.load(std::memory_order_relaxed) == epoch &&
                  done_.load(std::memory_order_relaxed) + finished < units;
       ++i) {
    _mm_pause();
  }
}

void WorkerPool::StandAside(Worker* worker) {
  const CoreShare::Milliseconds time = worker->share.Look(Now(), core_time_(ThreadId()));
  // One at a time: that the others have cores must not be due to several that left.
  if (time.count() == 0 || trying_.exchange(true, std::memory_order_relaxed)) return;
  std::atomic<pid_t>& id = thread_ids_[static_cast<size_t>(worker->number)];
  id.store(0, std::memory_order_relaxed);
  std::vector<std::pair<pid_t, CoreTime>> others;
  for (int other = 0; other < num_threads_; ++other) {
    const pid_t there = thread_ids_[static_cast<size_t>(other)].load(std::memory_order_relaxed);
    if (there != 0) others.emplace_back(there, core_time_(there));
  }
  const auto during_trial = [&] {
    CoreTime all;
    for (const auto& [other, before] : others) {
      const CoreTime after = core_time_(other);
      if (before.run_ns > 0 && after.run_ns > 0) all = all + (after - before);
    }
    return all;
  };
  const auto stops = [this] { return stop_.load(std::memory_order_relaxed); };
  std::unique_lock lock(aside_mutex_);
  const bool ends = stops_.wait_for(lock, CoreShare::kTrial, stops);
  lock.unlock();
  const bool is_of_use = !ends && worker->share.IsOfUse(Now(), during_trial());
  trying_.store(false, std::memory_order_relaxed);
  if (is_of_use) {
    const auto now = ShortTurns::Clock::now();
    worker->turns.Begin(now, now + (time - CoreShare::kTrial));
  } else {
    id.store(ThreadId(), std::memory_order_relaxed);
  }
}

void WorkerPool::Rest(Worker* worker) {
  if (!worker->turns.begun()) return;  // in most cases, without a look at the clock
  if (!worker->turns.turn_is_over(ShortTurns::Clock::now())) return;
  std::this_thread::sleep_for(ShortTurns::kPause);
  Return(worker);
}

void WorkerPool::Return(Worker* worker) {
  ShortTurns& turns = worker->turns;
  if (!turns.begun()) return;
  const auto now = ShortTurns::Clock::now();
  turns.NextTurn(now);
  if (!turns.all_are_over(now)) return;
  turns.End();
  worker->share.ComeBack(core_time_(ThreadId()));
  thread_ids_[static_cast<size_t>(worker->number)].store(ThreadId(), std::memory_order_relaxed);
}

void WorkerPool::WorkerMain(int number) {
  FlushDenormals flush;
  Worker worker{.number = number};
  thread_ids_[static_cast<size_t>(number)].store(ThreadId(), std::memory_order_relaxed);
  uint32_t seen = 0;
  auto idle_since = std::chrono::steady_clock::now(), looked_at = idle_since;
  for (;;) {
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (epoch != seen) {
      if (stop_.load(std::memory_order_relaxed)) return;
      if (Work(epoch, number, worker.turns)) seen = epoch;
      Rest(&worker);
      idle_since = std::chrono::steady_clock::now();
      if (!worker.turns.begun() && idle_since - looked_at >= kLookEvery) {
        looked_at = idle_since;
        StandAside(&worker);
      }
      continue;
    }
    bool waiting = true;
    for (int i = 0; i < 64 && waiting; ++i) {
      if (!Fetch(number, &worker.fetched)) _mm_pause();
      waiting = epoch_.load(std::memory_order_relaxed) == seen;
    }
    if (!waiting) continue;
    Rest(&worker);
    if (std::chrono::steady_clock::now() - idle_since < kSpinBeforeSleep) continue;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    const bool sleeps = epoch_.load(std::memory_order_seq_cst) == seen;
    if (sleeps) FutexWait(&epoch_, seen);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    if (sleeps) Return(&worker);
    idle_since = std::chrono::steady_clock::now();
  }
}

}  // namespace modu::kernels::cpu
