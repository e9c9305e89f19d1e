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
/// Activations of a range, of which every strip reads all: half of what a core's second cache
/// holds.
constexpr int64_t kRangeBytes = int64_t{1} << 20;

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

/// Rows that share one decoding of a strip, whole blocks of them: of few groups all that a worker
/// has, else as many as sums are kept of; but few enough that all workers have units.
int RowsOfRange(const PreparedLayout& layout, int strips, int num_tokens, int workers) {
  int blocks = kMostTileRows / kBlockRows;
  if (layout.groups() <= kChunkGroups) {
    const int share = (num_tokens + workers - 1) / workers;
    const auto cached = static_cast<int>(kRangeBytes / (layout.block_bytes / kTileMaxRows));
    blocks = std::max(blocks, std::min((share - 1) / kBlockRows + 1, cached / kBlockRows));
  }
  const auto units = [&] { return strips * ((num_tokens - 1) / (blocks * kBlockRows) + 1); };
  while (blocks > 1 && units() < 4 * workers) blocks /= 2;
  return blocks * kBlockRows;
}

/// body(strip index, first row, rows, scratch)
template <typename Body>
void ForRanges(CpuDevice& cpu, int strips, int num_tokens, int most, const Body& body) {
  WorkerPool& pool = cpu.pool();
  ForStrips(
      pool, strips, num_tokens, most, [&] { return TileScope(cpu.linear_kernels().bf16_tiles); },
      [&](const TileScope&, int index, int first, int rows, int worker) {
        body(index, first, rows, pool.scratch(worker));
      });
}

/// `finish` for as long as the argument lives.
template <typename Finish>
FinishPass FinishWith(const Finish& finish) {
  return {[](const void* context, int row, int rows, const float* sums) {
            (*static_cast<const Finish*>(context))(row, rows, sums);
          },
          &finish};
}

/// One call of GatedLinearByTiles: a range of rows and what the gate's and up's strips make of it.
struct GatedRange {
  const LinearKernels& kernels;
  const GatedLinearParams& p;
  const PreparedLayout& in_layout;
  const PreparedLayout& out_layout;
  const Strip& gate;
  const Strip& up;
  int first, rows;  // of the batch
  std::byte* scratch;
  float* sums;       // of kMostTileRows rows
  float* gate_sums;  // as many

  const float* GateBias() const { return p.bias == nullptr ? nullptr : p.bias + gate.column; }
  std::byte* Out() const {
    return out_layout.Row(p.out, first) + int64_t{gate.column} / 2 * kTileRowBytes;
  }

  void Products(OutputTile a, OutputTile b, const TileOutput& out, float* to,
                FinishPass finish) const {
    kernels.bf16_tiles.products({.outputs = {a, b},
                                 .layout = &in_layout,
                                 .in = in_layout.Row(p.in, first),
                                 .rows = rows,
                                 .out = out,
                                 .scratch = scratch,
                                 .sums = to,
                                 .finish = finish});
  }

  /// act(gate) * up of columns [column, column + width) of the strips and of rows from `row` on.
  void Gate(int column, int width, int row, int some, const float* gate_at,
            const float* up_at) const {
    const auto from = [&](const float* array) {
      return array == nullptr ? nullptr : array + column;
    };
    const float* const bias = GateBias();
    kernels.bf16_tiles.gate(
        {.gate = gate_at,
         .up = up_at,
         .rows = some,
         .width = width,
         .columns = std::clamp(gate.columns - column, 0, width),
         .gate_scales = from(gate.scales),
         .up_scales = from(up.scales),
         .gate_bias = from(bias),
         .up_bias = from(bias == nullptr ? nullptr : bias + out_layout.cols),
         .activation = p.activation,
         .out = Out() + row / kTileMaxRows * out_layout.block_bytes + column / 2 * kTileRowBytes,
         .block_bytes = out_layout.block_bytes});
  }

  /// 16 columns of both strips at once, so that each pass is finished while it is in L1.
  void RunHalves() const {
    for (int half = 0; half < 2; ++half) {
      const int column = half * kTileMaxRows;
      const auto finish = [&](int row, int some, const float* at) {
        Gate(column, kTileMaxRows, row, some, at, at + kTileMaxRows * kTileMaxRows);
      };
      Products({&gate, half}, {&up, half},
               {Out() + column / 2 * kTileRowBytes, out_layout.block_bytes, kTileMaxRows,
                kTileMaxRows / 2},
               sums, FinishWith(finish));
    }
  }

  /// One pass of rows, strip by strip: weights are read in their order in memory.
  void RunPass() const {
    const auto keep = [](int, int, const float*) {};
    const auto finish = [&](int row, int some, const float* at) {
      Gate(0, kStrip, row, some, gate_sums, at);
    };
    Products({&gate, 0}, {&gate, 1}, {}, gate_sums, FinishWith(keep));
    Products({&up, 0}, {&up, 1}, {}, sums, FinishWith(finish));
  }

  /// For a consumer that reads rows: int8 products follow.
  void RunByRows() const {
    const auto keep = [&](int row, int some, const float* at) {
      float* const to = gate_sums + row * kStrip;
      std::copy_n(at, (some + 15) / 16 * kTileMaxRows * kStrip, to);
    };
    const auto finish = [&](int row, int some, const float* at) {
      alignas(64) float gate_rows[kTileMaxRows * kStrip], up_rows[kTileMaxRows * kStrip];
      for (int r = 0; r < some; r += kTileMaxRows) {
        const int tile_rows = std::min(kTileMaxRows, some - r);
        kernels.bf16_tiles.to_rows(gate_sums + (row + r) * kStrip, tile_rows, gate_rows);
        kernels.bf16_tiles.to_rows(at + r * kStrip, tile_rows, up_rows);
        WriteGatedRows(kernels, p, gate, up, first + row + r, tile_rows, gate_rows, up_rows);
      }
    };
    Products({&gate, 0}, {&gate, 1}, {}, sums, FinishWith(keep));
    Products({&up, 0}, {&up, 1}, {}, sums, FinishWith(finish));
  }
};

}  // namespace

void LinearByTiles(CpuDevice& cpu, const LinearParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const PreparedLayout& layout = weight.prepared();
  const std::span<const Strip> strips = weight.strips();
  const auto count = static_cast<int>(strips.size());
  cpu.pool().ReserveScratch(kTileScratchBytes + kSumsBytes);
  ForRanges(cpu, count, p.num_tokens, RowsOfRange(layout, count, p.num_tokens, cpu.num_threads()),
            [&](int index, int first, int rows, std::byte* scratch) {
              const Strip& strip = strips[static_cast<size_t>(index)];
              float* const out = p.out + first * p.out_stride + strip.column;
              const bool plain =
                  strip.columns == kStrip && strip.scales == nullptr && p.bias == nullptr;
              const auto finish = [&](int row, int some, const float* sums) {
                alignas(64) float tile[kTileMaxRows * kStrip];
                for (int r = 0; r < some; r += kTileMaxRows) {
                  const int tile_rows = std::min(kTileMaxRows, some - r);
                  if (plain) {
                    kernels.bf16_tiles.store_rows(sums + r * kStrip, tile_rows, p.accumulate,
                                                  out + (row + r) * p.out_stride, p.out_stride);
                    continue;
                  }
                  kernels.bf16_tiles.to_rows(sums + r * kStrip, tile_rows, tile);
                  kernels.f32.store({.tile = tile,
                                     .rows = tile_rows,
                                     .columns = strip.columns,
                                     .scales = strip.scales,
                                     .bias = p.bias == nullptr ? nullptr : p.bias + strip.column,
                                     .accumulate = p.accumulate,
                                     .out = out + (row + r) * p.out_stride,
                                     .out_stride = p.out_stride});
                }
              };
              const int lines = (strip.columns * static_cast<int>(sizeof(float)) + 63) / 64;
              kernels.bf16_tiles.products(
                  {.outputs = {{&strip, 0}, {&strip, 1}},
                   .layout = &layout,
                   .in = layout.Row(p.in, first),
                   .rows = rows,
                   .out = {reinterpret_cast<const std::byte*>(out),
                           p.out_stride * static_cast<int64_t>(sizeof(float)), 1, lines},
                   .scratch = scratch,
                   .sums = reinterpret_cast<float*>(scratch + kTileScratchBytes),
                   .finish = FinishWith(finish)});
            });
}

void GatedLinearByTiles(CpuDevice& cpu, const GatedLinearParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const PreparedLayout& out_layout = LayoutOf(*p.consumer);
  const std::span<const Strip> strips = weight.strips();
  const auto pairs = static_cast<int>(strips.size() / 2);
  const bool direct = out_layout.kind == PreparedKind::kBf16Tiles;
  RowFinisher finisher(kernels.f32, out_layout, p.out, p.num_tokens, kBlockRows, pairs);
  cpu.pool().ReserveScratch(kTileScratchBytes + 2 * kSumsBytes);
  const int most = RowsOfRange(weight.prepared(), pairs, p.num_tokens, cpu.num_threads());
  ForRanges(cpu, pairs, p.num_tokens, direct ? most : std::min(most, kMostTileRows),
            [&](int index, int first, int rows, std::byte* scratch) {
              auto* const sums = reinterpret_cast<float*>(scratch + kTileScratchBytes);
              const GatedRange range = {kernels,
                                        p,
                                        weight.prepared(),
                                        out_layout,
                                        strips[static_cast<size_t>(2 * index)],
                                        strips[static_cast<size_t>(2 * index + 1)],
                                        first,
                                        rows,
                                        scratch,
                                        sums,
                                        sums + kSumsBytes / sizeof(float)};
              if (!direct) {
                range.RunByRows();
                finisher.Wrote(first, rows);
              } else if (rows > kPassRows) {
                range.RunHalves();
              } else {
                range.RunPass();
              }
            });
}

}  // namespace modu::kernels::cpu
