// Scores and weighted values where a level sums whole series of tile products in registers instead
// of tile by tile (attention_tiles-inl.h). Included by op_dtype_isa files only.
#pragma once
#include <array>
#include <utility>

#include "kernels/cpu/attention_pieces-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// out[row r][column n][16] = the sum over all pairs of `tiles` tiles of A's row r x B's column n,
/// one chain over rising pairs. Rows of a tile of A lie a_row_bytes apart, its tiles a_tile_bytes.
struct SeriesProduct {
  const std::byte* a;
  int64_t a_tile_bytes, a_row_bytes;
  const std::byte* const* b;  // [tiles][columns]
  int tiles;
  int pairs;  // of the last tile; the others have 16
  float* out;
  int64_t out_stride;  // floats from a row to the next
};

/// Such a level has void Series(int rows, int columns, const SeriesProduct&, BlocksAhead&), which
/// fetches ahead as it reads B.
template <typename Tiles>
concept MakesSeries = requires(const SeriesProduct& product, BlocksAhead& ahead) {
  Tiles::Series(1, 1, product, ahead);
};

constexpr int kMostSeriesColumns = 4;

/// Columns side by side: at least 8 chains of dot products from two rows on (they take 6 cycles
/// each), at most 16.
constexpr int SeriesColumns(int rows) { return rows <= 4 ? 4 : rows <= 8 ? 2 : 1; }

/// Kernel::Run<rows, columns>(product, ahead).
template <typename Kernel, typename Product>
class SeriesTable {
 public:
  static void Run(int rows, int columns, const Product& product, BlocksAhead& ahead) {
    static constexpr auto kOne = Of<1>(std::make_integer_sequence<int, 16>());
    static constexpr auto kTwo = Of<2>(std::make_integer_sequence<int, 8>());
    static constexpr auto kFour = Of<4>(std::make_integer_sequence<int, 4>());
    const auto row = static_cast<size_t>(rows - 1);
    (columns == 1 ? kOne[row] : columns == 2 ? kTwo[row] : kFour[row])(product, ahead);
  }

 private:
  template <int kColumns, int... kRowsLessOne>
  static constexpr auto Of(std::integer_sequence<int, kRowsLessOne...>) {
    return std::array{&Kernel::template Run<kRowsLessOne + 1, kColumns>...};
  }
};

template <typename Tiles>
void ScoreSeries(const AttentionItem& item, const std::byte* q, int rows, int piece_start,
                 const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
  constexpr int kMostTiles = kMaxHeadDim / kDimsPerTile;
  const std::byte* k[kMostTiles * kMostSeriesColumns];
  const int tail = item.head_dim % kDimsPerTile;
  SeriesProduct product = {};
  product.a = q;
  product.a_tile_bytes = kTileBytes;
  product.a_row_bytes = kTileRowBytes;
  product.b = k;
  product.tiles = (item.head_dim + kDimsPerTile - 1) / kDimsPerTile;
  product.pairs = tail == 0 ? kTileMaxRows : tail / 2;
  product.out_stride = kScoreStride;
  // By halves of blocks, 16 tokens each.
  for (int half = 2 * seen.begin; half < 2 * seen.end;) {
    int columns = SeriesColumns(rows);
    while (half + columns > 2 * seen.end) columns /= 2;
    for (int n = 0; n < columns; ++n) {
      const std::byte* const keys =
          item.k + item.BlockOffset((half + n) / 2) + (half + n) % 2 * item.half_bytes;
      for (int t = 0; t < product.tiles; ++t) k[t * columns + n] = keys + t * kTileBytes;
    }
    product.out = scores + (half * 16 - piece_start);
    Tiles::Series(rows, columns, product, ahead);
    half += columns;
  }
}

/// All dims of o = P V. v: the V of each block.
template <typename Tiles>
void WeighSeries(const std::byte* probabilities, int rows, int blocks, const std::byte* const* v,
                 int dim_tiles, BlocksAhead ahead, float* o, int64_t o_stride) {
  const std::byte* values[kPieceTokens / kKvBlockTokens * kMostSeriesColumns];
  SeriesProduct product = {};
  product.a = probabilities;
  product.a_tile_bytes = kTileRowBytes;  // 32 tokens
  product.a_row_bytes = kScoreStrideBytes;
  product.b = values;
  product.tiles = blocks;
  product.pairs = kTileMaxRows;
  product.out_stride = o_stride;
  for (int dims = 0; dims < dim_tiles;) {
    int columns = SeriesColumns(rows);
    while (dims + columns > dim_tiles) columns /= 2;
    for (int t = 0; t < blocks; ++t) {
      for (int n = 0; n < columns; ++n) values[t * columns + n] = v[t] + (dims + n) * kTileBytes;
    }
    product.out = o + 16 * dims;
    Tiles::Series(rows, columns, product, ahead);
    dims += columns;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
