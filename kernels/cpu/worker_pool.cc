#include "kernels/cpu/worker_pool.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <new>

#include "kernels/check.h"

namespace modu::kernels::cpu {
namespace {

// A futex wake costs about 36 us, so a step's ops must find the workers spinning; the gap between
// two steps (scheduling, sampling) should too.
constexpr std::chrono::microseconds kSpinBeforeSleep{150};
// About 50-100 us of pause; then the missing worker has probably lost its core, perhaps to us.
constexpr int kSpinsBeforeYield = 2000;

void FutexWait(std::atomic<uint32_t>* word, uint32_t expected) {
  static_assert(sizeof(*word) == sizeof(uint32_t));
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

/// Flushes denormal results and reads denormal operands as zero while it lives.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  const unsigned saved_;
};

}  // namespace

WorkerPool::WorkerPool(int num_threads)
    : num_threads_(std::max(1, num_threads)),
      claims_(new Claims[static_cast<size_t>(std::max(1, num_threads))]),
      scratch_(static_cast<size_t>(std::max(1, num_threads))) {
  for (int worker = 1; worker < num_threads_; ++worker) {
    threads_.emplace_back([this, worker] { WorkerMain(worker); });
  }
}

WorkerPool::~WorkerPool() {
  stop_.store(true, std::memory_order_relaxed);
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
    FlushDenormals flush;
    for (int first = 0; first < units; first += grain) {
      function(context, first, std::min(units, first + grain), 0);
    }
    return;
  }
  units_.store(units, std::memory_order_relaxed);
  grain_.store(grain, std::memory_order_relaxed);
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  for (int worker = 0; worker < num_threads_; ++worker) {
    const auto first = static_cast<uint32_t>(int64_t{units} * worker / num_threads_);
    claims_[static_cast<size_t>(worker)].next.store(uint64_t{epoch} << 32 | first,
                                                    std::memory_order_release);
  }
  // Both sides of "new job" and "someone sleeps" are sequentially consistent: one sees the other.
  epoch_.store(epoch, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) FutexWakeAll(&epoch_);
  {
    FlushDenormals flush;
    Work(epoch, 0);
  }
  for (int spins = 0; done_.load(std::memory_order_acquire) != units; ++spins) {
    if (spins < kSpinsBeforeYield) {
      _mm_pause();
    } else {
      sched_yield();
    }
  }
}

void WorkerPool::Work(uint32_t epoch, int worker) {
  const int units = units_.load(std::memory_order_relaxed);
  const int grain = grain_.load(std::memory_order_relaxed);
  const Function function = function_.load(std::memory_order_relaxed);
  void* const context = context_.load(std::memory_order_relaxed);
  for (int visit = 0; visit < num_threads_; ++visit) {
    const int home = (worker + visit) % num_threads_;
    const auto end = static_cast<uint32_t>(int64_t{units} * (home + 1) / num_threads_);
    std::atomic<uint64_t>& next = claims_[static_cast<size_t>(home)].next;
    uint64_t claim = next.load(std::memory_order_relaxed);
    for (;;) {
      if (static_cast<uint32_t>(claim >> 32) != epoch) return;  // that job has ended
      const auto first = static_cast<uint32_t>(claim);
      if (first >= end) break;
      const uint32_t count = std::min(end - first, static_cast<uint32_t>(grain));
      // A claim that succeeds proves that the job still runs, so that what was read above is its.
      if (!next.compare_exchange_weak(claim, claim + count, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        continue;
      }
      function(context, static_cast<int>(first), static_cast<int>(first + count), worker);
      done_.fetch_add(static_cast<int>(count), std::memory_order_release);
      claim = next.load(std::memory_order_relaxed);
    }
  }
}

void WorkerPool::WorkerMain(int worker) {
  FlushDenormals flush;
  uint32_t seen = 0;
  auto idle_since = std::chrono::steady_clock::now();
  for (;;) {
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    if (epoch != seen) {
      seen = epoch;
      if (stop_.load(std::memory_order_relaxed)) return;
      Work(epoch, worker);
      idle_since = std::chrono::steady_clock::now();
      continue;
    }
    bool waiting = true;
    for (int i = 0; i < 64 && waiting; ++i) {
      _mm_pause();
      waiting = epoch_.load(std::memory_order_relaxed) == seen;
    }
    if (!waiting || std::chrono::steady_clock::now() - idle_since < kSpinBeforeSleep) continue;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (epoch_.load(std::memory_order_seq_cst) == seen) FutexWait(&epoch_, seen);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    idle_since = std::chrono::steady_clock::now();
  }
}

}  // namespace modu::kernels::cpu
