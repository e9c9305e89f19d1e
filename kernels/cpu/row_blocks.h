// How the rows of a product are cut into blocks, each of which is multiplied with a strip at once:
// a strip and a block are a unit of work for the pool (strip_units.h).
#pragma once
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"

namespace modu::kernels::cpu {

/// How the rows of a product are cut into blocks.
struct RowBlocks {
  int rows;     // of a block, at most kTileRows
  int sharers;  // consecutive workers whose home ranges are of the same rows
  int Count(int num_tokens) const { return (num_tokens + rows - 1) / rows; }
};

/// `blocks` of about the same size, of whole fours, as kernels like them; the last may be smaller.
inline int EvenRows(int num_tokens, int blocks) {
  return ((num_tokens + blocks - 1) / blocks + 3) / 4 * 4;
}

/// Rows of a block at most: those that the kernels like, if the workers' last units do not take
/// longer by more than what is gained by it.
inline int MostBlockRows(const CpuDevice& cpu, const CpuWeight& weight, int num_tokens) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const Strip& strip = weight.strips().front();
  if (num_tokens <= kBlockRows || weight.prepared().kind != PreparedKind::kInt8 ||
      !IsNibbles(strip.format)) {
    return kBlockRows;
  }
  const bool gated = weight.use() == WeightUse::kGatedLinear;
  const auto units = static_cast<int>(weight.strips().size()) / (gated ? 2 : 1);  // of a block
  const auto turns = [&](int blocks) {
    return (units * blocks + cpu.num_threads() - 1) / cpu.num_threads();
  };
  constexpr int kFewestTurns = 4;  // for workers of unlike speed
  const int few = (num_tokens + kernels.int8.block_rows - 1) / kernels.int8.block_rows;
  const int many = (num_tokens + kBlockRows - 1) / kBlockRows;
  // They gain 1.5 to 3 % (benchmarks/results/2026-11-30-zen4-one-row.md).
  const bool pays =
      32 * turns(few) * EvenRows(num_tokens, few) <= 33 * turns(many) * EvenRows(num_tokens, many);
  return pays && turns(few) >= kFewestTurns ? kernels.int8.block_rows : kBlockRows;
}

/// All workers share the rows.
inline RowBlocks WholeRows(const CpuDevice& cpu, const CpuWeight& weight, int num_tokens) {
  const int most = MostBlockRows(cpu, weight, num_tokens);
  return {EvenRows(num_tokens, (num_tokens + most - 1) / most), cpu.num_threads()};
}

/// Rows from which it pays that workers far from each other have their own, though each then reads
/// the whole weight: a guess between 24, which took 1.01 of the time, and 64, which took 0.98
/// (benchmarks/results/2026-11-30-zen4-far-workers.md).
constexpr int kFewestSplitRows = 48;

/// Of far workers the first one's rows are the first half, as in ops on single rows and attention.
inline RowBlocks CutRows(CpuDevice& cpu, const CpuWeight& weight, int num_tokens) {
  if (num_tokens < kFewestSplitRows || !cpu.worker_distance().far()) {
    return WholeRows(cpu, weight, num_tokens);
  }
  const int most = MostBlockRows(cpu, weight, num_tokens);
  const int blocks = (num_tokens + 2 * most - 1) / (2 * most) * 2;
  return {(num_tokens + blocks - 1) / blocks, 1};
}

}  // namespace modu::kernels::cpu
