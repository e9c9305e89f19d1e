// Whether the pool's workers have a cache in common. Where they do not (cores of a Zen on several
// L3s, or several processors), a cache line that one worker writes and another has costs several
// times as much, and it pays to leave whole rows of a step to each half of the workers
// (strip_products.h). A virtual machine is often not told which cores are near to each other, and
// its host may move them while it runs, so it is measured.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/cpu/worker_pool.h"

namespace modu::kernels::cpu {

class WorkerDistance {
 public:
  /// Measures now and then, in a job of some microseconds. Called about once a step, between jobs.
  void Look(WorkerPool& pool);

  /// Groups of consecutive workers, equal in size, between which lines go a long way: 1 or 2.
  int groups() const { return far_in_a_row_ >= kSure ? 2 : 1; }

  /// ns: what a line that worker 1, 2, .. has takes worker 0 to write, all of them measured at
  /// once.
  void Learn(std::span<const double> ns);

 private:
  /// Calls of Look from one measurement to the next.
  static constexpr int kEvery = 8;
  /// An interrupt makes near lines far, never the other way round.
  static constexpr int kSure = 4;
  /// On Zen 4 a line takes 2 ns from a core on the same L3 and 13 from one on another, many lines
  /// in a row (benchmarks/results/2026-11-30-zen4-far-workers.md).
  static constexpr double kFarNs = 6;

  void Write(int worker, std::byte value);

  int calls_ = 0;
  int far_in_a_row_ = 0;
  struct alignas(64) Line {
    std::byte first;
  };
  std::vector<Line> lines_;
};

}  // namespace modu::kernels::cpu
