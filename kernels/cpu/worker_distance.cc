#include "kernels/cpu/worker_distance.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <vector>

namespace modu::kernels::cpu {
namespace {

constexpr size_t kLines = 128;  // of each worker
/// How often worker 0 looks whether the others have begun: some 10 us.
constexpr int kMostWaits = 400;

}  // namespace

void WorkerDistance::Write(int worker, std::byte value) {
  volatile Line* const lines = lines_.data() + static_cast<size_t>(worker) * kLines;
  for (size_t i = 0; i < kLines; ++i) lines[i].first = value;
}

void WorkerDistance::Look(WorkerPool& pool) {
  const int workers = pool.size();
  if (workers % 2 != 0 || calls_++ % kEvery != 0) return;
  lines_.resize(static_cast<size_t>(workers) * kLines);
  // Each worker writes lines of its own. Worker 0 waits for the others, or it would do their units.
  std::atomic<int> wrote{1};
  pool.Run(workers, 1, [&](int unit, int, int worker) {
    if (unit != worker) return;
    if (unit != 0) {
      Write(unit, std::byte{1});
      wrote.fetch_add(1, std::memory_order_release);
      return;
    }
    for (int i = 0; i < kMostWaits && wrote.load(std::memory_order_acquire) < workers; ++i) {
      _mm_pause();
    }
  });
  if (wrote.load(std::memory_order_acquire) < workers) return;  // one sleeps, or has no core
  std::vector<double> ns;
  for (int worker = 1; worker < workers; ++worker) {
    const auto before = std::chrono::steady_clock::now();
    Write(worker, std::byte{2});
    _mm_mfence();
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - before;
    ns.push_back(time.count() / static_cast<double>(kLines));
  }
  Learn(ns);
  pool.SetPatient(groups() > 1);
}

void WorkerDistance::Learn(std::span<const double> ns) {
  const auto is_far = [](double one) { return one > kFarNs; };
  const std::span<const double> near = ns.first(ns.size() / 2);  // the first half but worker 0
  const bool halves =
      std::ranges::none_of(near, is_far) && std::ranges::all_of(ns.subspan(near.size()), is_far);
  far_in_a_row_ = halves ? std::min(far_in_a_row_ + 1, kSure) : 0;
}

}  // namespace modu::kernels::cpu
