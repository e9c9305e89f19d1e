#include "kernels/cpu/worker_distance.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>

namespace modu::kernels::cpu {
namespace {

constexpr size_t kLines = 128;  // of each worker
/// How often worker 0 looks whether the other has begun: some 10 us.
constexpr int kMostWaits = 400;

}  // namespace

double WorkerDistance::WriteLines(int of_worker) {
  volatile Line* const lines = lines_.data() + static_cast<size_t>(of_worker) * kLines;
  const auto before = std::chrono::steady_clock::now();
  for (size_t i = 0; i < kLines; ++i) lines[i].first = std::byte{1};
  _mm_mfence();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - before;
  return time.count() / static_cast<double>(kLines);
}

bool WorkerDistance::TakeLines(WorkerPool& pool) {
  std::atomic<bool> took{false};
  pool.Run(2, 1, [&](int unit, int, int worker) {
    if (unit != worker) return;
    if (worker == 1) {
      WriteLines(1);
      took.store(true, std::memory_order_release);
      return;
    }
    // Or worker 0 would do the other's unit before it has begun.
    for (int i = 0; i < kMostWaits && !took.load(std::memory_order_acquire); ++i) _mm_pause();
  });
  return took.load(std::memory_order_acquire);
}

void WorkerDistance::Look(WorkerPool& pool) {
  if (pool.size() != 2) return;
  const uint32_t call = calls_++ % kEvery;
  if (call == 0) is_due_ = true;
  if (!is_due_ || call >= kTries) return;
  lines_.resize(2 * kLines);
  if (TakeLines(pool)) {
    WriteLines(0);  // to be its own
    const double own = WriteLines(0);
    Learn(WriteLines(1) - own);
    is_due_ = false;
  } else if (call + 1 == kTries) {
    Miss();
  }
  pool.SetPatient(far());
}

void WorkerDistance::Learn(double ns) {
  ++num_measured_;
  missed_in_a_row_ = 0;
  far_in_a_row_ = ns > kFarNs ? std::min(far_in_a_row_ + 1, kSure) : 0;
}

void WorkerDistance::Miss() {
  if (++missed_in_a_row_ < kSure) return;
  missed_in_a_row_ = far_in_a_row_ = 0;
}

}  // namespace modu::kernels::cpu
