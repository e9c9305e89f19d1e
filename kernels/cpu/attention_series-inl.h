// Scores and weighted values of a few rows, as tiles make them (attention_tiles-inl.h), where the
// tiles can sum whole series of products in registers. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_pieces-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Rows of A tiles: tile t's row r lies at base + t * tile_bytes + r * row_bytes.
struct SeriesRows {
  const std::byte* base;
  int64_t tile_bytes, row_bytes;
};

/// Tiles::Series<kColumns>(rows, a, tiles, pairs, b, fetch, out, out_stride), for up to kSeriesRows
/// rows: out[column n][row r][16] = the sum over all pairs of `tiles` tiles of a's row r times
/// column n of B, whose tile t is at b(t, n). The last tile has `pairs` pairs, the others 16.
/// fetch() is called for every kColumns lines of B; rows of out are out_stride floats apart. Bits
/// are those of the products tile by tile.
template <typename Tiles>
concept MakesSeries = requires { Tiles::kSeriesRows; };

/// Scores of kBlocks blocks from `block` on.
template <typename Tiles, int kBlocks>
MODU_INLINE void ScoreBlocks(const AttentionItem& item, const std::byte* q, int rows, int block,
                             BlocksAhead& ahead, float* to) {
  constexpr int kColumns = 2 * kBlocks;
  const std::byte* k[kColumns];
  float* out[kColumns];
  for (int n = 0; n < kColumns; ++n) {
    k[n] = item.k + item.block_table[block + n / 2] * item.block_stride + n % 2 * item.half_bytes;
    out[n] = to + 16 * n;
  }
  const int tail = item.head_dim % kDimsPerTile;
  Tiles::template Series<kColumns>(
      rows, SeriesRows{q, kTileBytes, kTileRowBytes},
      (item.head_dim + kDimsPerTile - 1) / kDimsPerTile, tail == 0 ? kTileMaxRows : tail / 2,
      [&](int t, int n) { return k[n] + t * kTileBytes; }, [&] { ahead.Fetch<kColumns>(); }, out,
      kScoreStride);
}

template <typename Tiles>
void ScoreSeries(const AttentionItem& item, const std::byte* q, int rows, int piece_start,
                 const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
  for (int block = seen.begin; block < seen.end;) {
    float* const to = scores + (block * kKvBlockTokens - piece_start);
    if (Tiles::SeriesColumns(rows) == 4 && block + 2 <= seen.end) {
      ScoreBlocks<Tiles, 2>(item, q, rows, block, ahead, to);
      block += 2;
    } else {
      ScoreBlocks<Tiles, 1>(item, q, rows, block, ahead, to);
      ++block;
    }
  }
}

/// All dims of o = P V. v: the V of each block.
template <typename Tiles>
void WeighSeries(const std::byte* probabilities, int rows, int blocks, const std::byte* const* v,
                 int dim_tiles, BlocksAhead ahead, float* o, int64_t o_stride) {
  const SeriesRows a = {probabilities, kTileRowBytes, kProbabilityStride};
  const auto weigh = [&]<int kColumns>(int dims) {
    float* out[kColumns];
    for (int n = 0; n < kColumns; ++n) out[n] = o + 16 * (dims + n);
    Tiles::template Series<kColumns>(
        rows, a, blocks, kTileMaxRows, [&](int t, int n) { return v[t] + (dims + n) * kTileBytes; },
        [&] { ahead.Fetch<kColumns>(); }, out, o_stride);
  };
  int dims = 0;
  if (Tiles::SeriesColumns(rows) == 4) {
    for (; dims + 4 <= dim_tiles; dims += 4) weigh.template operator()<4>(dims);
  }
  for (; dims + 2 <= dim_tiles; dims += 2) weigh.template operator()<2>(dims);
  if (dims < dim_tiles) weigh.template operator()<1>(dims);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
