// Whether two workers have a cache in common. Where they do not (cores of a Zen on two L3s, or of
// two processors), a cache line that one writes and the other has costs several times as much, and
// it pays to leave whole rows of a step to each of them (strip_products.h) and not to take the last
// units from each other (WorkerPool::SetPatient). A virtual machine is often not told which cores
// are near to each other, and its host may move them while it runs, so it is measured. Of more than
// two workers nothing is known: which of them share a cache changes with each that the system
// moves.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/worker_pool.h"

namespace modu::kernels::cpu {

class WorkerDistance {
 public:
  /// Measures now and then, in a job of some microseconds, and tells the pool. Called once or twice
  /// a step, between jobs.
  void Look(WorkerPool& pool);

  bool far() const { return far_in_a_row_ >= kSure; }

  /// ns: what a line that the other worker has takes to write, more than one's own.
  void Learn(double ns);
  /// A measurement failed: the other worker sleeps, or has no core.
  void Miss();

  int64_t num_measured() const { return num_measured_; }

 private:
  struct alignas(64) Line {
    std::byte first;
  };

  /// Calls of Look from one measurement to the next; the first wakes a worker that sleeps, for the
  /// second.
  static constexpr uint32_t kEvery = 8, kTries = 2;
  /// An interrupt makes near lines far, never the other way round.
  static constexpr int kSure = 4;
  /// On Zen 4 a line takes 2 ns, own ones and all, where cores seem to be on the same L3, and 8 to
  /// 18 where not, many lines in a row (benchmarks/results/2026-11-30-zen4-far-workers.md).
  static constexpr double kFarNs = 5;

  /// False where the other worker takes no part.
  bool TakeLines(WorkerPool& pool);
  /// Nanoseconds a line.
  double WriteLines(int of_worker);

  uint32_t calls_ = 0;
  bool is_due_ = false;
  int far_in_a_row_ = 0, missed_in_a_row_ = 0;
  int64_t num_measured_ = 0;
  std::vector<Line> lines_;
};

}  // namespace modu::kernels::cpu
