// Products with bf16 activations on tile registers: AMX, or its scalar twin as the template
// argument Tiles. Weights of any format are decoded exactly and rounded to bf16 (nearest even,
// denormals as zeros, which the products take them for). They are the first factor, A, so that a
// row of a tile is 32 inputs of one output: those of 4- and 5-bit codes are one look-up in the
// table of the 16 or 32 weights that the column's group can have. Activations lie as B tiles of 16
// rows (PreparedKind::kBf16Tiles), so the products are transposed at the end of a strip.
//
// The order of additions is tdpbf16ps's: for each 32 inputs two chains of FMAs (even and odd
// inputs), their sum added to the output's. The vector kernels have one chain over all inputs, so
// the bits differ; neither can take the other's order at its own speed. Within a mode all row
// counts of a machine must agree, hence at level kAmx every bf16 product goes by tiles, one row
// too. Columns of a tile are independent: what lies in the rest of a block of activations never
// matters. Results differ from levels kAvx2 and kAvx512 in the last bits.
// Included by op_dtype_isa files only.
#pragma once
#include <span>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/row_tiles-inl.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/tile_decode-inl.h"
#include "kernels/cpu/vector_math-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kTileFloats = kTileMaxRows * kTileMaxRows;
/// Few rows: groups decoded ahead of their products, so that a tile's load does not wait for its
/// stores, in a ring.
constexpr int64_t kGroupsAhead = 2, kRingGroups = 4;
static_assert(kTileScratchBytes >= kRingGroups * 2 * kTileBytes);

/// Bytes ahead of the group in hand that a strip is fetched from memory: the products of a group
/// keep the processor from looking that far by itself. Early to L2, as L1 waits for few lines at a
/// time; then to L1. (Steps of one row, E4M3 of 1.1 B, on an Emerald Rapids: 0.82 of the time that
/// 4 KiB ahead to L1 alone took; benchmarks/results/2026-11-30-amx-one-row.md.) Strips follow each
/// other in memory.
constexpr int64_t kFetchFar = 12 * 1024, kFetchNear = 2 * 1024;

MODU_INLINE void FetchGroup(const std::byte* group, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(group + kFetchNear + line);
    __builtin_prefetch(group + kFetchFar + line, 0, 2);
  }
}

/// One thread's tile registers; Begin has configured them.
template <typename Tiles>
Tiles& ThreadTiles() {
  static thread_local Tiles tiles;
  return tiles;
}

template <typename Tiles>
void BeginTiles() {
  TileConfig config;
  for (int t = 0; t < kTileRegisters; ++t) config.Set(t, kTileMaxRows, kTileRowBytes);
  ThreadTiles<Tiles>().Configure(config);
}
template <typename Tiles>
void EndTiles() {
  ThreadTiles<Tiles>().Release();
}

template <bool kTwo, typename Tiles>
MODU_INLINE void ZeroSums(Tiles& tiles) {
  tiles.template Zero<0>();
  tiles.template Zero<1>();
  if constexpr (kTwo) {
    tiles.template Zero<2>();
    tiles.template Zero<3>();
  }
}

/// sums: [1 or 2 tiles of rows][2 tiles of outputs][16 outputs][16 rows]
template <bool kTwo, typename Tiles>
MODU_INLINE void LoadSums(Tiles& tiles, const float* sums) {
  tiles.template Load<0>(sums, kTileRowBytes);
  tiles.template Load<1>(sums + kTileFloats, kTileRowBytes);
  if constexpr (kTwo) {
    tiles.template Load<2>(sums + 2 * kTileFloats, kTileRowBytes);
    tiles.template Load<3>(sums + 3 * kTileFloats, kTileRowBytes);
  }
}
template <bool kTwo, typename Tiles>
MODU_INLINE void StoreSums(Tiles& tiles, float* sums) {
  tiles.template Store<0>(sums, kTileRowBytes);
  tiles.template Store<1>(sums + kTileFloats, kTileRowBytes);
  if constexpr (kTwo) {
    tiles.template Store<2>(sums + 2 * kTileFloats, kTileRowBytes);
    tiles.template Store<3>(sums + 3 * kTileFloats, kTileRowBytes);
  }
}

/// C += A x B of one group: two tiles of outputs, one or two tiles of rows. Of many rows all loads
/// come first: beside another guest's load four products then take 0.88 of what they take in turn
/// with loads (benchmarks/results/2026-12-01-amx-prompts.md). Of few what was decoded last is
/// loaded as late as can be.
template <bool kFew, bool kTwo, typename Tiles>
MODU_INLINE void MultiplyGroup(Tiles& tiles, const std::byte* first, const std::byte* second,
                               const std::byte* in, int64_t block_bytes) {
  if constexpr (kFew) {
    tiles.template Load<4>(first, kTileRowBytes);
    tiles.template Load<6>(in, kTileRowBytes);
    tiles.template DotBf16<0, 4, 6>();
    tiles.template Load<5>(second, kTileRowBytes);
    tiles.template DotBf16<1, 5, 6>();
    if constexpr (kTwo) tiles.template Load<7>(in + block_bytes, kTileRowBytes);
  } else {
    // Rows, which all strips read, pass through the first cache and leave it to the weights.
    tiles.template LoadOnce<6>(in, kTileRowBytes);
    if constexpr (kTwo) tiles.template LoadOnce<7>(in + block_bytes, kTileRowBytes);
    tiles.template Load<4>(first, kTileRowBytes);
    tiles.template Load<5>(second, kTileRowBytes);
    tiles.template DotBf16<0, 4, 6>();
    tiles.template DotBf16<1, 5, 6>();
  }
  if constexpr (kTwo) {
    tiles.template DotBf16<2, 4, 7>();
    tiles.template DotBf16<3, 5, 7>();
  }
}

/// Half of a strip's outputs. Copied, as all that is read anew behind each tile instruction costs
/// time (9 % of a row of FP8).
struct StripHalf {
  explicit StripHalf(const OutputTile& tile)
      : data(tile.strip->data),
        bytes(tile.strip->group_bytes),
        format(tile.strip->format),
        half(tile.half) {}

  const std::byte* Group(int64_t group) const { return data + group * bytes; }
  /// Of a strip of bf16, which needs no decoding.
  const std::byte* Tile(int64_t group) const { return Group(group) + half * kTileBytes; }
  MODU_INLINE void Decode(int64_t group, std::byte* to) const {
    if (half == 0) {
      DecodeTiles<0, kTileMaxRows>(format, Group(group), to);
    } else {
      DecodeTiles<kTileMaxRows, kTileMaxRows>(format, Group(group), to);
    }
  }
  /// The second half of a strip was fetched with its first.
  MODU_INLINE void FetchAhead(int64_t group) const {
    if (half == 0) FetchGroup(Group(group), bytes);
  }

  const std::byte* data;
  int64_t bytes;
  StripFormat format;
  int half;
};

/// The A tiles of the two tiles of outputs that are computed at once. kWhole: both halves of one
/// strip, decoded at once.
template <bool kWhole>
struct OutputTiles {
  explicit OutputTiles(const TileProductsArgs& args)
      : first(args.outputs[0]), second(args.outputs[1]) {}

  bool are_plain() const {
    return first.format == StripFormat::kBF16 && second.format == StripFormat::kBF16;
  }
  /// A group's of any format, one behind the other.
  MODU_INLINE void Decode(int64_t group, std::byte* to) const {
    if constexpr (kWhole) {
      DecodeTiles<0, kStrip>(first.format, first.Group(group), to);
    } else {
      first.Decode(group, to);
      second.Decode(group, to + kTileBytes);
    }
  }
  MODU_INLINE void FetchAndDecode(int64_t group, std::byte* to) const {
    first.FetchAhead(group);
    if constexpr (!kWhole) second.FetchAhead(group);
    Decode(group, to);
  }

  const StripHalf first, second;
};

/// Up to 32 rows: sums stay in registers, each group is multiplied once, soon after its decoding.
template <bool kWhole, bool kTwo, typename Tiles>
void MultiplyFew(Tiles& tiles, const TileProductsArgs& args) {
  const OutputTiles<kWhole> outputs(args);
  const int64_t groups = args.layout->groups(), block_bytes = args.layout->block_bytes;
  const std::byte* const in = args.in;
  std::byte* const ring = args.scratch;
  ZeroSums<kTwo>(tiles);
  if (outputs.are_plain()) {
    for (int64_t g = 0; g < groups; ++g) {
      MultiplyGroup<true, kTwo>(tiles, outputs.first.Tile(g), outputs.second.Tile(g),
                                in + g * kTileBytes, block_bytes);
    }
  } else {
    const auto slot = [&](int64_t g) { return ring + g % kRingGroups * 2 * kTileBytes; };
    for (int64_t g = 0; g < kGroupsAhead && g < groups; ++g) outputs.FetchAndDecode(g, slot(g));
    for (int64_t g = 0; g < groups; ++g) {
      MultiplyGroup<true, kTwo>(tiles, slot(g), slot(g) + kTileBytes, in + g * kTileBytes,
                                block_bytes);
      const int64_t next = g + kGroupsAhead;
      if (next < groups) outputs.FetchAndDecode(next, slot(next));
    }
  }
  StoreSums<kTwo>(tiles, args.sums);
  args.finish(0, args.rows, args.sums);
}

/// Fetches lines to L2, a few behind each of `steps` groups of products.
class LinesFetcher {
 public:
  LinesFetcher(std::span<const LinesAhead> ahead, int64_t steps)
      : next_(ahead.data()), end_(ahead.data() + ahead.size()) {
    int64_t lines = 0;
    for (const LinesAhead& some : ahead) lines += some.pieces * some.lines;
    lines_a_step_ = (lines + steps - 1) / steps;
    TakeNext();
  }

  MODU_INLINE void Fetch() {
    for (int64_t i = 0; i < lines_a_step_ && pieces_ > 0; ++i) {
      __builtin_prefetch(at_ + line_ * 64, 0, 2);
      if (++line_ < lines_) continue;
      line_ = 0;
      at_ += stride_;
      if (--pieces_ == 0) TakeNext();
    }
  }

 private:
  void TakeNext() {
    for (; next_ != end_ && pieces_ == 0; ++next_) {
      if (next_->lines == 0) continue;
      at_ = next_->at;
      stride_ = next_->stride;
      pieces_ = next_->pieces;
      lines_ = next_->lines;
    }
  }

  const LinesAhead *next_, *end_;
  const std::byte* at_ = nullptr;
  int64_t stride_ = 0, pieces_ = 0, lines_ = 0, line_ = 0, lines_a_step_ = 0;
};

/// The lines of TileOutput of a pass.
LinesAhead OutputOfPass(const TileOutput& out, int row, int rows) {
  if (out.at == nullptr) return {};
  return {out.at + row / out.rows * out.stride, out.stride, (rows + out.rows - 1) / out.rows,
          out.lines};
}

/// Decoded groups times one or two tiles of rows. The next pass's sums are fetched where there are
/// any: loads and stores of tiles wait for each line (where they lie in L2: 0.94 of the time;
/// benchmarks/results/2026-12-01-amx-wide.md).
template <bool kTwo, typename Tiles>
MODU_INLINE void MultiplyChunk(Tiles& tiles, const TileProductsArgs& args, const std::byte* weights,
                               const std::byte* in, LinesFetcher& out, LinesFetcher& ahead,
                               float* sums) {
  constexpr int64_t kLinesAStep = 4, kLine = 16;
  const int64_t block_bytes = args.layout->block_bytes;
  const int64_t groups = args.last_group - args.first_group;
  const bool start = args.first_group == 0;
  const float* next_sums = sums + kPassSums;
  if (start) {
    ZeroSums<kTwo>(tiles);
  } else {
    LoadSums<kTwo>(tiles, sums);
  }
  for (int64_t g = 0; g < groups; ++g, weights += 2 * kTileBytes, in += kTileBytes) {
    MultiplyGroup<false, kTwo>(tiles, weights, weights + kTileBytes, in, block_bytes);
    out.Fetch();
    ahead.Fetch();
    if (start) continue;
    for (int i = 0; i < kLinesAStep; ++i, next_sums += kLine) __builtin_prefetch(next_sums);
  }
  StoreSums<kTwo>(tiles, sums);
}

/// Any number of rows. The groups of a strip of bf16 are taken as they lie; halves of strips,
/// copied, as otherwise they would take turns in one half of L1.
template <bool kWhole, typename Tiles>
void MultiplyMany(Tiles& tiles, const TileProductsArgs& args) {
  const OutputTiles<kWhole> outputs(args);
  const int64_t first = args.first_group, groups = args.last_group - first;
  const bool last = args.last_group == args.layout->groups();
  const std::byte* weights = args.scratch;
  if (kWhole && outputs.are_plain()) {
    weights = outputs.first.Group(first);
  } else {
    for (int64_t g = 0; g < groups; ++g) {
      outputs.Decode(first + g, args.scratch + g * 2 * kTileBytes);
    }
  }
  const int64_t passes = (args.rows + kPassRows - 1) / kPassRows;
  LinesFetcher ahead(args.ahead, passes * groups);
  const std::byte* in = args.in + first * kTileBytes;
  for (int row = 0; row < args.rows; row += kPassRows, in += 2 * args.layout->block_bytes) {
    float* const sums = args.sums + (args.keep_sums ? row * kStrip : 0);
    const int rows = args.rows - row < kPassRows ? args.rows - row : kPassRows;
    const LinesAhead written = last ? OutputOfPass(args.out, row, rows) : LinesAhead();
    LinesFetcher out({&written, 1}, groups);
    if (rows > kTileMaxRows) {
      MultiplyChunk<true>(tiles, args, weights, in, out, ahead, sums);
    } else {
      MultiplyChunk<false>(tiles, args, weights, in, out, ahead, sums);
    }
    if (last) args.finish(row, rows, sums);
  }
}

template <bool kWhole, typename Tiles>
void ProductsOf(Tiles& tiles, const TileProductsArgs& args) {
  if (args.rows > kPassRows) {
    MultiplyMany<kWhole>(tiles, args);
  } else if (args.rows > kTileMaxRows) {
    MultiplyFew<kWhole, true>(tiles, args);
  } else {
    MultiplyFew<kWhole, false>(tiles, args);
  }
}

/// Bf16TileKernels::products
template <typename Tiles>
void TileProducts(const TileProductsArgs& args) {
  const OutputTile &a = args.outputs[0], &b = args.outputs[1];
  if (a.strip == b.strip && a.half == 0 && b.half == 1) {
    ProductsOf<true>(ThreadTiles<Tiles>(), args);
  } else {
    ProductsOf<false>(ThreadTiles<Tiles>(), args);
  }
}

/// Bf16TileKernels::to_rows
void TileToRows(const float* sums, int rows, float* tile) {
  TransposeTile(sums, rows, tile, kStrip);
  TransposeTile(sums + kTileFloats, rows, tile + kTileMaxRows, kStrip);
}

/// Bf16TileKernels::store_rows
void StoreTileRows(const float* sums, int rows, bool accumulate, float* out, int64_t stride) {
  for (int half = 0; half < 2; ++half, sums += kTileFloats, out += kTileMaxRows) {
    if (accumulate) {
      ForRowsOfTile(sums, rows, [&](int r, const Group& x) {
        Group sum = LoadGroup(out + r * stride);
        for (int p = 0; p < kParts; ++p) sum.part[p] = Add(sum.part[p], x.part[p]);
        StoreGroup(out + r * stride, sum);
      });
    } else {
      TransposeTile(sums, rows, out, stride);
    }
  }
}

/// 16 rows of act(gate) * up for column n; zero past the columns, as their weights are.
MODU_INLINE Group GatedColumn(const TileGateArgs& args, int64_t at, int n) {
  const bool exists = n < args.columns;
  Group x = LoadGroup(args.gate + at), up = LoadGroup(args.up + at);
  for (int p = 0; p < kParts; ++p) {
    Float& gate = x.part[p];
    if (exists && args.gate_scales != nullptr) gate = Mul(gate, Set(args.gate_scales[n]));
    if (exists && args.up_scales != nullptr) up.part[p] = Mul(up.part[p], Set(args.up_scales[n]));
    if (exists && args.gate_bias != nullptr) gate = Add(gate, Set(args.gate_bias[n]));
    if (exists && args.up_bias != nullptr) up.part[p] = Add(up.part[p], Set(args.up_bias[n]));
    gate = args.activation == Activation::kSilu ? RoughSilu(gate) : RoughGeluTanh(gate);
    gate = Mul(gate, up.part[p]);
  }
  return x;
}

/// Bf16TileKernels::gate. A line of a B tile is a pair of columns of 16 rows.
void GateTiles(const TileGateArgs& args) {
  for (int row = 0; row < args.rows; row += kTileMaxRows) {
    std::byte* const out = args.out + row / kTileMaxRows * args.block_bytes;
    for (int n = 0; n < args.width; n += 2) {
      const int64_t at = row * kStrip + n * kTileMaxRows;
      StorePairs(out + n / 2 * kTileRowBytes, GatedColumn(args, at, n),
                 GatedColumn(args, at + kTileMaxRows, n + 1));
    }
  }
}

/// Bf16TileKernels::prepare
void PrepareBlock(const PreparedLayout& layout, std::byte* block, int64_t first, int64_t last,
                  int rows, const float* values, int64_t stride) {
  for (int64_t g = first; g < last; ++g) {
    const float* const from = values + g * kGroup;
    const int64_t left = layout.cols - g * kGroup;
    if (left >= kGroup) {
      StoreRowTile(from, stride, rows, block + g * kTileBytes);
      continue;
    }
    alignas(64) float padded[kTileMaxRows * kGroup] = {};
    for (int r = 0; r < rows; ++r) {
      __builtin_memcpy(padded + r * kGroup, from + r * stride,
                       sizeof(float) * static_cast<size_t>(left));
    }
    StoreRowTile(padded, kGroup, rows, block + g * kTileBytes);
  }
}

template <typename Tiles>
constexpr Bf16TileKernels kBf16TileKernels = {
    BeginTiles<Tiles>, EndTiles<Tiles>, TileProducts<Tiles>, TileToRows,
    StoreTileRows,     GateTiles,       PrepareBlock};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
