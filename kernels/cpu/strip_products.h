// Products of a weight's strips with blocks of rows on vectors, whatever the kind of activations,
// and what is fetched meanwhile.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_blocks.h"
#include "kernels/cpu/strip_units.h"

namespace modu::kernels::cpu {

/// The product of one strip with up to kTileRows rows.
inline void ComputeStrip(const LinearKernels& kernels, const CpuWeight& weight, const Strip& strip,
                         const std::byte* in, int rows, const Ahead& ahead, float* tile) {
  const PreparedLayout& layout = weight.prepared();
  if (layout.kind == PreparedKind::kInt8) {
    kernels.int8.strip[static_cast<int>(strip.format)](strip.data, layout, in, rows, ahead, tile);
  } else if (layout.kind == PreparedKind::kBf16Pairs) {
    kernels.bf16_dots(strip, layout, weight.round_to_bf16(), in, rows, tile);
  } else {
    kernels.f32.strip(strip, layout, weight.round_to_bf16(), in, rows, tile);
  }
}

/// The product of one strip with a block of rows.
struct BlockUnit {
  int strip;
  int row, rows;  // first, and how many
  int index;      // of all units: blocks of all strips
  int worker;
  bool is_last;  // of the worker's own
};

/// What a worker reads after a strip that `rows` rows are multiplied with: the one behind it.
inline Ahead AheadOf(const LinearKernels& kernels, const CpuWeight& weight, const Strip& strip,
                     int rows, const RowBlocks& blocks) {
  if (rows == 1 && IsNibbles(strip.format) &&
      weight.bytes() / blocks.sharers >= kernels.long_share) {
    return {};
  }
  return {.data = strip.data + strip.bytes, .bytes = strip.bytes};
}

/// The same of a unit's; after the last of its own ones its share of the next matrix.
inline Ahead AheadOf(const LinearKernels& kernels, const CpuWeight& weight, const Strip& strip,
                     const BlockUnit& unit, const RowBlocks& blocks) {
  if (!unit.is_last) return AheadOf(kernels, weight, strip, unit.rows, blocks);
  const WeightArena::Region share =
      weight.FollowingShare(unit.worker % blocks.sharers, blocks.sharers);
  return {.data = share.data, .bytes = std::min(strip.bytes, static_cast<int64_t>(share.bytes))};
}

/// Workers that wait from now on fetch their share of the matrix after `weight`, or nothing where
/// there is none: between a decode's matrices lie ops of one row, during which memory has nothing
/// to do (benchmarks/results/2026-11-28-zen4-head.md).
inline void FetchFollowing(CpuDevice& cpu, const CpuWeight& weight, int sharers) {
  const WeightArena::Region all = weight.FollowingShare(0, 1);
  cpu.pool().FetchWhenIdle(all.data, all.bytes, sharers);
}

/// ForStrips by `blocks`: body(around, unit)
template <typename Scope, typename Body>
void ForBlocks(CpuDevice& cpu, int strips, int num_tokens, const RowBlocks& blocks,
               const Scope& scope, const Body& body) {
  WorkerPool& pool = cpu.pool();
  const int units = strips * blocks.Count(num_tokens);
  ForStrips(pool, strips, num_tokens, blocks.rows, scope,
            [&](auto& around, int strip, int row, int rows, int worker) {
              const int index = row / blocks.rows * strips + strip;
              body(around, BlockUnit{.strip = strip,
                                     .row = row,
                                     .rows = rows,
                                     .index = index,
                                     .worker = worker,
                                     .is_last = index + 1 == pool.HomeEnd(units, worker)});
            });
}

}  // namespace modu::kernels::cpu
