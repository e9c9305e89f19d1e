#include "kernels/cpu/linear_tile_ops.h"

#include <algorithm>

#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_finisher.h"
#include "kernels/cpu/strip_units.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu {
namespace {

constexpr size_t kSumsBytes = sizeof(float) * kMostTileRows * kStrip;

/// A thread's tile registers, configured while it lives.
class TileScope {
 public:
  explicit TileScope(const Bf16TileKernels& kernels) : kernels_(kernels) { kernels_.begin(); }
  ~TileScope() { kernels_.end(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  const Bf16TileKernels& kernels_;
};

/// ForStrips by ranges of rows that share one decoding of a strip, but few enough rows that all
/// workers have units. body(strip index, first row, rows, scratch)
template <typename Body>
void ForRanges(CpuDevice& cpu, int strips, int num_tokens, const Body& body) {
  WorkerPool& pool = cpu.pool();
  int most = kMostTileRows;
  while (most > kBlockRows && strips * ((num_tokens + most - 1) / most) < 4 * pool.size()) {
    most /= 2;
  }
  ForStrips(
      pool, strips, num_tokens, most, [&] { return TileScope(cpu.linear_kernels().bf16_tiles); },
      [&](const TileScope&, int index, int first, int rows, int worker) {
        body(index, first, rows, pool.scratch(worker));
      });
}

}  // namespace

void LinearByTiles(CpuDevice& cpu, const LinearParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const std::span<const Strip> strips = weight.strips();
  cpu.pool().ReserveScratch(kTileScratchBytes + kSumsBytes);
  ForRanges(
      cpu, static_cast<int>(strips.size()), p.num_tokens,
      [&](int index, int first, int rows, std::byte* scratch) {
        auto* const sums = reinterpret_cast<float*>(scratch + kTileScratchBytes);
        alignas(64) float tile[kTileMaxRows * kStrip];
        const Strip& strip = strips[static_cast<size_t>(index)];
        float* const out = p.out + first * p.out_stride + strip.column;
        const TileOutput lines = {reinterpret_cast<const std::byte*>(out),
                                  p.out_stride * static_cast<int64_t>(sizeof(float)), 1,
                                  (strip.columns * static_cast<int>(sizeof(float)) + 63) / 64};
        kernels.bf16_tiles.products(strip, weight.prepared(), weight.prepared().Row(p.in, first),
                                    rows, lines, scratch, sums);
        for (int row = 0; row < rows; row += kTileMaxRows) {
          const int some = std::min(kTileMaxRows, rows - row);
          kernels.bf16_tiles.to_rows(sums + row * kStrip, some, tile);
          kernels.f32.store({.tile = tile,
                             .rows = some,
                             .columns = strip.columns,
                             .scales = strip.scales,
                             .bias = p.bias == nullptr ? nullptr : p.bias + strip.column,
                             .accumulate = p.accumulate,
                             .out = out + row * p.out_stride,
                             .out_stride = p.out_stride});
        }
      });
}

void GatedLinearByTiles(CpuDevice& cpu, const GatedLinearParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const PreparedLayout& out_layout = LayoutOf(*p.consumer);
  const std::span<const Strip> strips = weight.strips();
  const bool direct = out_layout.kind == PreparedKind::kBf16Tiles;  // else int8 products follow
  RowFinisher finisher(kernels.f32, out_layout, p.out, p.num_tokens, kBlockRows,
                       static_cast<int>(strips.size() / 2));
  cpu.pool().ReserveScratch(kTileScratchBytes + 2 * kSumsBytes);
  ForRanges(
      cpu, static_cast<int>(strips.size() / 2), p.num_tokens,
      [&](int index, int first, int rows, std::byte* scratch) {
        auto* const gate = reinterpret_cast<float*>(scratch + kTileScratchBytes);
        float* const up = gate + kSumsBytes / sizeof(float);
        const Strip& gate_strip = strips[static_cast<size_t>(2 * index)];
        const Strip& up_strip = strips[static_cast<size_t>(2 * index + 1)];
        const std::byte* const in = weight.prepared().Row(p.in, first);
        const int64_t column = gate_strip.column;
        std::byte* const out =
            direct ? out_layout.Row(p.out, first) + column / 2 * kTileRowBytes : nullptr;
        const TileOutput lines = {out, out_layout.block_bytes, kTileMaxRows, kStrip / 2};
        kernels.bf16_tiles.products(gate_strip, weight.prepared(), in, rows, {}, scratch, gate);
        kernels.bf16_tiles.products(up_strip, weight.prepared(), in, rows, lines, scratch, up);
        const float* const bias = p.bias == nullptr ? nullptr : p.bias + column;
        if (direct) {
          kernels.bf16_tiles.gate({.gate = gate,
                                   .up = up,
                                   .rows = rows,
                                   .columns = gate_strip.columns,
                                   .gate_scales = gate_strip.scales,
                                   .up_scales = up_strip.scales,
                                   .gate_bias = bias,
                                   .up_bias = bias == nullptr ? nullptr : bias + out_layout.cols,
                                   .activation = p.activation,
                                   .out = out,
                                   .block_bytes = out_layout.block_bytes});
          return;
        }
        alignas(64) float gate_rows[kTileMaxRows * kStrip];
        alignas(64) float up_rows[kTileMaxRows * kStrip];
        for (int row = 0; row < rows; row += kTileMaxRows) {
          const int some = std::min(kTileMaxRows, rows - row);
          kernels.bf16_tiles.to_rows(gate + row * kStrip, some, gate_rows);
          kernels.bf16_tiles.to_rows(up + row * kStrip, some, up_rows);
          WriteGatedRows(kernels, p, gate_strip, up_strip, first + row, some, gate_rows, up_rows);
        }
        finisher.Wrote(first, rows);
      });
}

}  // namespace modu::kernels::cpu
