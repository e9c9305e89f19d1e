#include "kernels/cpu/linear_tile_ops.h"

#include <algorithm>

#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_finisher.h"
#include "kernels/cpu/strip_units.h"
#include "kernels/cpu/tile_cut.h"
#include "kernels/cpu/tile_unit.h"

namespace modu::kernels::cpu {
namespace {

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

TileProduct MakeProduct(const CpuDevice& cpu, const PreparedLayout& in, int num_tokens,
                        TilePairs pairs) {
  return {cpu.linear_kernels().bf16_tiles, in, pairs,
          CutForTiles(in, num_tokens, pairs, cpu.num_threads())};
}

/// body(unit)
template <typename Body>
void ForUnits(CpuDevice& cpu, const TileProduct& product, int num_tokens, const Body& body) {
  WorkerPool& pool = cpu.pool();
  pool.ReserveScratch(product.ScratchBytes());
  const int pairs = product.cut.pairs, count = product.pairs.count;
  ForStrips(
      pool, product.cut.PairRanges(count), num_tokens, product.cut.rows,
      [&] { return TileScope(product.kernels); },
      [&](const TileScope&, int index, int row, int rows, int worker) {
        const int first = index * pairs;
        body(TileUnit{first, std::min(first + pairs, count), row, rows, pool.scratch(worker)});
      });
}

/// One unit of LinearByTiles: a pair is a strip.
struct LinearUnit {
  const LinearKernels& kernels;
  const LinearParams& p;
  std::span<const Strip> strips;
  const TileUnit& unit;

  float* Out(const Strip& strip, int row) const {
    return p.out + (unit.row + row) * p.out_stride + strip.column;
  }

  OutputPair PairAt(int pair) const {
    constexpr auto kFloat = static_cast<int>(sizeof(float));
    const Strip& strip = strips[static_cast<size_t>(pair)];
    return {{{&strip, 0}, {&strip, 1}},
            {reinterpret_cast<const std::byte*>(Out(strip, 0)), p.out_stride * kFloat, 1,
             (strip.columns * kFloat + 63) / 64}};
  }

  void Finish(int pair, int row, int rows, const float* sums) const {
    const Strip& strip = strips[static_cast<size_t>(pair)];
    const bool plain = strip.columns == kStrip && strip.scales == nullptr && p.bias == nullptr;
    alignas(64) float tile[kTileMaxRows * kStrip];
    for (int r = 0; r < rows; r += kTileMaxRows) {
      const int tile_rows = std::min(kTileMaxRows, rows - r);
      float* const out = Out(strip, row + r);
      if (plain) {
        kernels.bf16_tiles.store_rows(sums + r * kStrip, tile_rows, p.accumulate, out,
                                      p.out_stride);
        continue;
      }
      kernels.bf16_tiles.to_rows(sums + r * kStrip, tile_rows, tile);
      kernels.f32.store({.tile = tile,
                         .rows = tile_rows,
                         .columns = strip.columns,
                         .scales = strip.scales,
                         .bias = p.bias == nullptr ? nullptr : p.bias + strip.column,
                         .accumulate = p.accumulate,
                         .out = out,
                         .out_stride = p.out_stride});
    }
  }
};

/// One unit of GatedLinearByTiles. Two pairs are a strip of the gate and one of the up: by halves,
/// 16 columns of both, or by strips.
struct GatedUnit {
  const LinearKernels& kernels;
  const GatedLinearParams& p;
  const PreparedLayout& out_layout;
  bool direct;  // the consumer reads tiles
  std::span<const Strip> strips;
  const TileUnit& unit;

  const Strip& GateOf(int pair) const { return strips[static_cast<size_t>(pair / 2 * 2)]; }
  const Strip& UpOf(int pair) const { return strips[static_cast<size_t>(pair / 2 * 2 + 1)]; }

  /// Of rows from `row` of the unit on and columns from `column` of the strips on.
  std::byte* Out(int pair, int row, int column) const {
    return out_layout.Row(p.out, unit.row + row) +
           int64_t{GateOf(pair).column + column} / 2 * kTileRowBytes;
  }

  OutputPair HalvesAt(int pair) const {
    const int half = pair % 2;
    return {{{&GateOf(pair), half}, {&UpOf(pair), half}},
            {Out(pair, 0, half * kTileMaxRows), out_layout.block_bytes, kTileMaxRows,
             kTileMaxRows / 2}};
  }
  OutputPair StripAt(int pair) const {
    const Strip* const strip = &strips[static_cast<size_t>(pair)];
    if (!direct || pair % 2 == 0) return {{{strip, 0}, {strip, 1}}, {}};
    return {{{strip, 0}, {strip, 1}},
            {Out(pair, 0, 0), out_layout.block_bytes, kTileMaxRows, kTileMaxRows}};
  }

  void FinishHalves(int pair, int row, int rows, const float* sums) const {
    Gate(pair, pair % 2 * kTileMaxRows, kTileMaxRows, row, rows, sums,
         sums + kTileMaxRows * kTileMaxRows);
  }
  void FinishStrip(int pair, int row, int rows, const float* up) const {
    if (pair % 2 == 0) return;
    const float* const gate = unit.Sums(pair - 1) + row * kStrip;
    if (direct) {
      Gate(pair, 0, kStrip, row, rows, gate, up);
    } else {
      GateRows(pair, row, rows, gate, up);
    }
  }

  /// act(gate) * up of columns [column, column + width).
  void Gate(int pair, int column, int width, int row, int rows, const float* gate_sums,
            const float* up_sums) const {
    const Strip &gate = GateOf(pair), &up = UpOf(pair);
    const auto from = [&](const float* array) {
      return array == nullptr ? nullptr : array + column;
    };
    const float* const bias = p.bias == nullptr ? nullptr : p.bias + gate.column;
    kernels.bf16_tiles.gate({.gate = gate_sums,
                             .up = up_sums,
                             .rows = rows,
                             .width = width,
                             .columns = std::clamp(gate.columns - column, 0, width),
                             .gate_scales = from(gate.scales),
                             .up_scales = from(up.scales),
                             .gate_bias = from(bias),
                             .up_bias = from(bias == nullptr ? nullptr : bias + out_layout.cols),
                             .activation = p.activation,
                             .out = Out(pair, row, column),
                             .block_bytes = out_layout.block_bytes});
  }

  /// For a consumer that reads rows: int8 products follow.
  void GateRows(int pair, int row, int rows, const float* gate_sums, const float* up_sums) const {
    alignas(64) float gate[kTileMaxRows * kStrip], up[kTileMaxRows * kStrip];
    for (int r = 0; r < rows; r += kTileMaxRows) {
      const int tile_rows = std::min(kTileMaxRows, rows - r);
      kernels.bf16_tiles.to_rows(gate_sums + r * kStrip, tile_rows, gate);
      kernels.bf16_tiles.to_rows(up_sums + r * kStrip, tile_rows, up);
      WriteGatedRows(kernels, p, GateOf(pair), UpOf(pair), unit.row + row + r, tile_rows, gate, up);
    }
  }
};

}  // namespace

void LinearByTiles(CpuDevice& cpu, const LinearParams& p) {
  const CpuWeight& weight = Weight(p.weight);
  const std::span<const Strip> strips = weight.strips();
  const TileProduct product =
      MakeProduct(cpu, weight.prepared(), p.num_tokens, {.count = static_cast<int>(strips.size())});
  ForUnits(cpu, product, p.num_tokens, [&](const TileUnit& unit) {
    const LinearUnit linear = {cpu.linear_kernels(), p, strips, unit};
    UnitProducts(product, unit, p.in)
        .Run([&](int pair) { return linear.PairAt(pair); },
             [&](int pair, int row, int rows, const float* sums) {
               linear.Finish(pair, row, rows, sums);
             });
  });
}

void GatedLinearByTiles(CpuDevice& cpu, const GatedLinearParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const PreparedLayout& out_layout = LayoutOf(*p.consumer);
  const std::span<const Strip> strips = weight.strips();
  const auto count = static_cast<int>(strips.size());
  const bool direct = out_layout.kind == PreparedKind::kBf16Tiles;
  // By halves each pass is finished while it is in L1. Sums of one pass, and of chunks, are kept:
  // there strips are read one after the other, in their order in memory.
  const bool one_chunk = weight.prepared().groups() <= kSingleChunkGroups;
  const bool halves = direct && one_chunk && p.num_tokens > kPassRows;
  const TileProduct product = MakeProduct(cpu, weight.prepared(), p.num_tokens,
                                          {.count = count, .least = 2, .keep_sums = !halves});
  RowFinisher finisher(kernels.f32, out_layout, p.out, p.num_tokens, kBlockRows,
                       product.cut.PairRanges(count));
  ForUnits(cpu, product, p.num_tokens, [&](const TileUnit& unit) {
    const GatedUnit gated = {kernels, p, out_layout, direct, strips, unit};
    const UnitProducts products(product, unit, p.in);
    if (halves) {
      products.Run([&](int pair) { return gated.HalvesAt(pair); },
                   [&](int pair, int row, int rows, const float* sums) {
                     gated.FinishHalves(pair, row, rows, sums);
                   });
    } else {
      products.Run([&](int pair) { return gated.StripAt(pair); },
                   [&](int pair, int row, int rows, const float* sums) {
                     gated.FinishStrip(pair, row, rows, sums);
                   });
    }
    if (!direct) finisher.Wrote(unit.row, unit.rows);
  });
}

}  // namespace modu::kernels::cpu
