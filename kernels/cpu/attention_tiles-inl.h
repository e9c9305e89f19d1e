// The products of attention over paged bf16 KV (attention_rows-inl.h) on tiles, the template
// argument: AMX's registers, the scalar twin of them or of AVX512-BF16, or AVX512-BF16 itself,
// which sums whole series of tiles (attention_series-inl.h, dot_tiles-inl.h). K and V of a block
// are B tiles where they lie (kv_cache.h); rows of A are query rows of one KV head, up to 16 a
// tile. Queries and probabilities are rounded to bf16; scores and sums are f32, powers as good as
// what is rounded so needs. At levels kAvx512Bf16 and kAmx all rows of bf16 KV go this way, one row
// of a decode too. What no row of the step sees of a block is read as 0 V, for it may be NaN.
// Results differ from those of the vector kernels by these roundings. Included by op_dtype_isa
// files only.
#pragma once
#include "kernels/cpu/attention_expand-inl.h"
#include "kernels/cpu/attention_powers-inl.h"
#include "kernels/cpu/attention_rows-inl.h"
#include "kernels/cpu/attention_series-inl.h"
#include "kernels/cpu/attention_spoilt-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Bytes of 16 query rows as A tiles: [32 dims][16 rows][32] bf16.
constexpr int64_t Bf16QueryTileBytes(int head_dim) {
  return (head_dim + kDimsPerTile - 1) / kDimsPerTile * kTileBytes;
}

/// C 0 to 3, A 4 and B 6 and 7. Of more than 16 rows, which no head size with half a tile at its
/// end has, C 0 and 1 and A 4 are the first 16, C 2 and 3 and A 5 the others. A 5 and B 7 in scores
/// of head sizes that end so.
inline TileConfig AttentionShapes(int rows, int tail_dims) {
  const int first = rows < kTileMaxRows ? rows : kTileMaxRows;
  const int second = rows > kTileMaxRows ? rows - kTileMaxRows : rows;
  TileConfig config;
  for (const int t : {0, 1, 4}) config.Set(t, first, kTileRowBytes);
  for (const int t : {2, 3, 5}) config.Set(t, second, kTileRowBytes);
  for (const int t : {6, 7}) config.Set(t, kTileMaxRows, kTileRowBytes);
  if (tail_dims != 0) {
    config.Set(5, rows, 2 * tail_dims);
    config.Set(7, tail_dims / 2, kTileRowBytes);
  }
  return config;
}

/// Scores of a block's 32 tokens: to[row][32].
template <bool kTail, int kC0, int kC1, typename Tiles>
MODU_INLINE void ScoreBlock(Tiles& tiles, const AttentionItem& item, const std::byte* q,
                            const std::byte* k, BlocksAhead& ahead, float* to) {
  constexpr int kB1 = kTail ? 6 : 7;
  tiles.template Zero<kC0>();
  tiles.template Zero<kC1>();
  const int whole = item.head_dim / kDimsPerTile;
  for (int i = 0; i < whole; ++i, q += kTileBytes, k += kTileBytes) {
    const std::byte* const upper = k + item.half_bytes;
    tiles.template Load<4>(q, kTileRowBytes);
    tiles.template Load<6>(k, kTileRowBytes);
    ahead.FetchTile();
    tiles.template DotBf16<kC0, 4, 6>();
    tiles.template Load<kB1>(upper, kTileRowBytes);
    ahead.FetchTile();
    tiles.template DotBf16<kC1, 4, kB1>();
  }
  if constexpr (kTail) {
    tiles.template Load<5>(q, kTileRowBytes);
    tiles.template Load<7>(k, kTileRowBytes);
    tiles.template DotBf16<kC0, 5, 7>();
    ahead.FetchTile();
    tiles.template Load<7>(k + item.half_bytes, kTileRowBytes);
    tiles.template DotBf16<kC1, 5, 7>();
    ahead.FetchTile();
  }
  tiles.template Store<kC0>(to, kScoreStrideBytes);
  tiles.template Store<kC1>(to + kTileMaxRows, kScoreStrideBytes);
}

/// The same of two tiles of rows, which share what is loaded of K: past the first cache, which a
/// piece of K and V does not fit beside the scores.
template <typename Tiles>
MODU_INLINE void ScoreBlockOfTwo(Tiles& tiles, const AttentionItem& item, const std::byte* q,
                                 const std::byte* k, BlocksAhead& ahead, float* to) {
  const int whole = item.head_dim / kDimsPerTile;
  const std::byte* second = q + whole * kTileBytes;
  tiles.template Zero<0>();
  tiles.template Zero<1>();
  tiles.template Zero<2>();
  tiles.template Zero<3>();
  for (int i = 0; i < whole; ++i, q += kTileBytes, second += kTileBytes, k += kTileBytes) {
    tiles.template LoadOnce<6>(k, kTileRowBytes);
    tiles.template LoadOnce<7>(k + item.half_bytes, kTileRowBytes);
    tiles.template Load<4>(q, kTileRowBytes);
    tiles.template Load<5>(second, kTileRowBytes);
    ahead.FetchTile();
    ahead.FetchTile();
    tiles.template DotBf16<0, 4, 6>();
    tiles.template DotBf16<1, 4, 7>();
    tiles.template DotBf16<2, 5, 6>();
    tiles.template DotBf16<3, 5, 7>();
  }
  float* const below = to + kTileMaxRows * kScoreStride;
  tiles.template Store<0>(to, kScoreStrideBytes);
  tiles.template Store<1>(to + 16, kScoreStrideBytes);
  tiles.template Store<2>(below, kScoreStrideBytes);
  tiles.template Store<3>(below + 16, kScoreStrideBytes);
}

template <bool kTail, typename Tiles>
void ScoreTokens(Tiles& tiles, const AttentionItem& item, const std::byte* q, int rows,
                 int piece_start, const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
  if constexpr (MakesSeries<Tiles>) {
    ScoreSeries<Tiles>(item, q, rows, piece_start, seen, ahead, scores);
  } else {
    for (int block = seen.begin; block < seen.end; ++block) {
      const std::byte* const k = item.k + item.BlockOffset(block);
      float* const to = scores + (block * kKvBlockTokens - piece_start);
      if (rows > kTileMaxRows) {
        ScoreBlockOfTwo(tiles, item, q, k, ahead, to);
      } else if (block % 2 == 0) {  // neighbours do not wait for each other's sums
        ScoreBlock<kTail, 0, 1>(tiles, item, q, k, ahead, to);
      } else {
        ScoreBlock<kTail, 2, 3>(tiles, item, q, k, ahead, to);
      }
    }
  }
}

/// V of a block with tokens outside [first, last) of it, which may be NaN, read as zeros.
void CopySeenValues(const std::byte* v, int first, int last, int padded_dim, std::byte* to) {
  for (int row = 0; row < padded_dim / 16 * kTileMaxRows; ++row) {
    const int token = row % kTileMaxRows * 2;  // the first of the row's pairs
    const uint32_t mask = (token >= first && token < last ? 0xFFFFu : 0u) |
                          (token + 1 >= first && token + 1 < last ? 0xFFFF0000u : 0u);
    uint32_t words[kTileRowBytes / 4];
    __builtin_memcpy(words, v + row * kTileRowBytes, sizeof(words));
    for (uint32_t& word : words) word &= mask;
    __builtin_memcpy(to + row * kTileRowBytes, words, sizeof(words));
  }
}

/// One 16-dim tile of V, the i-th of those side by side.
template <int kC, int kB, typename Tiles>
MODU_INLINE void WeighDimTile(Tiles& tiles, const std::byte* v, BlocksAhead& ahead) {
  tiles.template Load<kB>(v + kC * kTileBytes, kTileRowBytes);
  ahead.FetchTile();
  tiles.template DotBf16<kC, 4, kB>();
}

/// o[row][16 kCount dims] = P V. v: of each seen block the first of these dims.
template <bool kTail, int kCount, typename Tiles>
MODU_INLINE void WeighDims(Tiles& tiles, const std::byte* probabilities, int blocks,
                           const std::byte* const* v, BlocksAhead& ahead, int64_t at, float* o,
                           int64_t o_stride) {
  constexpr int kB1 = kTail ? 6 : 7;  // 7 has another shape where scores have a tail
  tiles.template Zero<0>();
  if constexpr (kCount > 1) tiles.template Zero<1>();
  if constexpr (kCount > 2) tiles.template Zero<2>();
  if constexpr (kCount > 3) tiles.template Zero<3>();
  for (int block = 0; block < blocks; ++block) {
    const std::byte* const values = v[block] + at;
    tiles.template Load<4>(probabilities + block * kTileRowBytes, kScoreStrideBytes);
    WeighDimTile<0, 6>(tiles, values, ahead);
    if constexpr (kCount > 1) WeighDimTile<1, kB1>(tiles, values, ahead);
    if constexpr (kCount > 2) WeighDimTile<2, 6>(tiles, values, ahead);
    if constexpr (kCount > 3) WeighDimTile<3, kB1>(tiles, values, ahead);
  }
  const int64_t stride = o_stride * static_cast<int64_t>(sizeof(float));
  tiles.template Store<0>(o, stride);
  if constexpr (kCount > 1) tiles.template Store<1>(o + 16, stride);
  if constexpr (kCount > 2) tiles.template Store<2>(o + 32, stride);
  if constexpr (kCount > 3) tiles.template Store<3>(o + 48, stride);
}

/// Two tiles of dims of two tiles of rows, which share what is loaded of V.
template <typename Tiles>
MODU_INLINE void WeighDimsOfTwo(Tiles& tiles, const std::byte* probabilities, int blocks,
                                const std::byte* const* v, BlocksAhead& ahead, int64_t at, float* o,
                                int64_t o_stride) {
  const std::byte* second = probabilities + kTileMaxRows * kScoreStrideBytes;
  tiles.template Zero<0>();
  tiles.template Zero<1>();
  tiles.template Zero<2>();
  tiles.template Zero<3>();
  for (int block = 0; block < blocks; ++block) {
    const std::byte* const values = v[block] + at;
    tiles.template LoadOnce<6>(values, kTileRowBytes);
    tiles.template LoadOnce<7>(values + kTileBytes, kTileRowBytes);
    tiles.template Load<4>(probabilities + block * kTileRowBytes, kScoreStrideBytes);
    tiles.template Load<5>(second + block * kTileRowBytes, kScoreStrideBytes);
    ahead.FetchTile();
    ahead.FetchTile();
    tiles.template DotBf16<0, 4, 6>();
    tiles.template DotBf16<1, 4, 7>();
    tiles.template DotBf16<2, 5, 6>();
    tiles.template DotBf16<3, 5, 7>();
  }
  const int64_t stride = o_stride * static_cast<int64_t>(sizeof(float));
  float* const below = o + kTileMaxRows * o_stride;
  tiles.template Store<0>(o, stride);
  tiles.template Store<1>(o + 16, stride);
  tiles.template Store<2>(below, stride);
  tiles.template Store<3>(below + 16, stride);
}

/// A tile of V whose every value is 1: what it is weighed to are the sums of P. A state's header is
/// as wide, so that they go there, in each place.
struct OnesTile {
  alignas(64) uint16_t values[kTileBytes / 2];
  constexpr OnesTile() : values() {
    for (uint16_t& value : values) value = 0x3F80;
  }
  const std::byte* bytes() const { return reinterpret_cast<const std::byte*>(values); }
};
constexpr OnesTile kOnesTile;
static_assert(kStateHeader == kTileMaxRows);

/// The sums of two tiles of rows.
template <typename Tiles>
MODU_INLINE void SumOfTwo(Tiles& tiles, const std::byte* probabilities, int blocks, float* sums,
                          int64_t stride) {
  const std::byte* second = probabilities + kTileMaxRows * kScoreStrideBytes;
  tiles.template Load<6>(kOnesTile.bytes(), kTileRowBytes);
  tiles.template Zero<0>();
  tiles.template Zero<2>();
  for (int block = 0; block < blocks; ++block) {
    tiles.template Load<4>(probabilities + block * kTileRowBytes, kScoreStrideBytes);
    tiles.template DotBf16<0, 4, 6>();
    tiles.template Load<5>(second + block * kTileRowBytes, kScoreStrideBytes);
    tiles.template DotBf16<2, 5, 6>();
  }
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  tiles.template Store<0>(sums, bytes);
  tiles.template Store<2>(sums + kTileMaxRows * stride, bytes);
}

/// All dims of P V over the seen blocks, and before them the sums of P.
template <bool kTail, typename Tiles>
void WeighTokens(Tiles& tiles, const AttentionItem& item, const TileScratch& s, int rows,
                 int piece_start, const SeenBlocks& seen, BlocksAhead ahead, float* states,
                 int64_t stride) {
  const std::byte *v[kPieceTokens / kKvBlockTokens], *ones[kPieceTokens / kKvBlockTokens];
  float* const o = states + kStateHeader;
  std::byte* copy = s.values;
  const std::byte* const values = item.k + item.v_offset;
  for (int block = seen.begin; block < seen.end; ++block) {
    const int i = block - seen.begin;
    ones[i] = kOnesTile.bytes();
    v[i] = values + item.BlockOffset(block);
    const int first = seen.first - block * kKvBlockTokens;
    const int last = seen.last - block * kKvBlockTokens;
    if (first <= 0 && last >= kKvBlockTokens) continue;
    CopySeenValues(v[i], first, last, item.padded_dim, copy);
    v[i] = copy;
    copy += int64_t{2} * kKvBlockTokens * item.padded_dim;
  }
  const int blocks = seen.end - seen.begin;
  const std::byte* const p =
      reinterpret_cast<std::byte*>(s.scores) + 2 * (seen.begin * kKvBlockTokens - piece_start);
  const int dim_tiles = item.padded_dim / 16;
  if constexpr (MakesSeries<Tiles>) {
    WeighSeries<Tiles>(p, rows, blocks, ones, 1, BlocksAhead(), states, stride);
    WeighSeries<Tiles>(p, rows, blocks, v, dim_tiles, ahead, o, stride);
  } else if (rows > kTileMaxRows) {
    SumOfTwo(tiles, p, blocks, states, stride);
    for (int dims = 0; dims < dim_tiles; dims += 2) {  // of heads of whole tiles, so two by two
      WeighDimsOfTwo(tiles, p, blocks, v, ahead, dims * kTileBytes, o + 16 * dims, stride);
    }
  } else {
    BlocksAhead none;
    WeighDims<kTail, 1>(tiles, p, blocks, ones, none, 0, states, stride);
    for (int dims = 0; dims < dim_tiles; dims += 4) {
      const int64_t at = dims * kTileBytes;
      float* const to = o + 16 * dims;
      switch (dim_tiles - dims) {
        case 1:
          WeighDims<kTail, 1>(tiles, p, blocks, v, ahead, at, to, stride);
          break;
        case 2:
          WeighDims<kTail, 2>(tiles, p, blocks, v, ahead, at, to, stride);
          break;
        case 3:
          WeighDims<kTail, 3>(tiles, p, blocks, v, ahead, at, to, stride);
          break;
        default:
          WeighDims<kTail, 4>(tiles, p, blocks, v, ahead, at, to, stride);
      }
    }
  }
}

/// 2^(score - top) of a row, of all blocks that its step sees, 0 for what it does not see itself.
/// out may be the scores: what is written has been read.
MODU_INLINE void StorePowersOfRow(const ScoredRow& row, std::byte* out) {
  const float origin = PowersOrigin(row.top);
  ForBlocks(row.begin, row.end, row.first, row.last, [&]<bool kWhole>(int i) {
    StorePowers(row.scores + i, origin, kWhole ? ~0u : TokenBits(row.first - i, row.last - i),
                out + 2 * i);
  });
}

/// q of rows [first, first + rows) times log2(e) as A tiles of bf16, zeros in dims that do not
/// exist.
void PackQueryTile(const AttentionItem& item, int first, int rows, std::byte* tile) {
  const auto pack = [](const float* from, std::byte* to) {
    Group x[2] = {LoadGroup(from), LoadGroup(from + 16)};
    for (Group& half : x) {
      for (int p = 0; p < kParts; ++p) half.part[p] = Mul(half.part[p], Set(kLog2E));
    }
    StoreBf16(to, x[0], x[1]);
  };
  const int whole = item.head_dim / kDimsPerTile * kDimsPerTile;
  int token = first / item.group, head = first % item.group;
  for (int r = 0; r < rows; ++r, tile += kTileRowBytes) {
    const float* const from = item.q + TokenOf(item, token) * item.q_stride + head * item.head_dim;
    std::byte* to = tile;
    for (int d = 0; d < whole; d += kDimsPerTile, to += kTileBytes) pack(from + d, to);
    if (whole < item.head_dim) {
      alignas(64) float rest[kDimsPerTile] = {};
      __builtin_memcpy(rest, from + whole,
                       sizeof(float) * static_cast<size_t>(item.head_dim - whole));
      pack(rest, to);
    }
    if (++head == item.group) head = 0, ++token;
  }
}

/// Products (attention_rows-inl.h) of bf16 KV. kTail: of head sizes that end in half a tile.
template <bool kTail, typename Tiles>
class Bf16Products {
 public:
  static constexpr bool kScaledValues = false;
  static constexpr int kStepRows = kTail || MakesSeries<Tiles> ? kTileMaxRows : 2 * kTileMaxRows;

  static int64_t QueryTileBytes(int head_dim) { return Bf16QueryTileBytes(head_dim); }
  static void PackQueries(const AttentionItem& item, int first, int rows, std::byte* to) {
    PackQueryTile(item, first, rows, to);
  }
  void Configure(int rows, int head_dim) {
    if constexpr (!MakesSeries<Tiles>) {
      tiles_.Configure(AttentionShapes(rows, head_dim % kDimsPerTile));
    }
  }
  void Release() {
    if constexpr (!MakesSeries<Tiles>) tiles_.Release();
  }
  void Open(const AttentionItem& item, int piece) { spoilt_.Find(item, piece); }
  void Score(const AttentionItem& item, const std::byte* q, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
    ScoreTokens<kTail>(tiles_, item, q, rows, piece_start, seen, ahead, scores);
  }
  /// In place of the scores.
  void Round(int, const ScoredRow& row) {
    auto* const powers = reinterpret_cast<std::byte*>(row.scores);
    StorePowersOfRow(row, powers);
    spoilt_.Mark(row, powers);
  }
  void Weigh(const AttentionItem& item, const TileScratch& s, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* states, int64_t stride) {
    WeighTokens<kTail>(tiles_, item, s, rows, piece_start, seen, ahead, states, stride);
  }
  static int64_t ValueBytes(const AttentionItem& item) {
    return int64_t{2} * kKvBlockTokens * item.padded_dim;
  }
  static int KeyLines(const AttentionItem& item) {
    return 2 * ((item.head_dim + kDimsPerTile - 1) / kDimsPerTile) * kTileMaxRows;
  }
  static int ValueLines(const AttentionItem& item) { return item.padded_dim; }

 private:
  Tiles tiles_;
  SpoiltTokens spoilt_;
};

template <typename Tiles>
void RunBf16Tiles(const AttentionItem& item) {
  if constexpr (MakesSeries<Tiles>) {
    RunTiles<Bf16Products<false, Tiles>>(item);
  } else if (item.head_dim % kDimsPerTile == 0) {
    RunTiles<Bf16Products<false, Tiles>>(item);
  } else {
    RunTiles<Bf16Products<true, Tiles>>(item);
  }
}

/// On Tiles over KV in bf16 and in 8 bits, the rest as `others`.
template <typename Tiles>
AttentionKernels TileAttention(const AttentionKernels& others) {
  return {.run_f32 = others.run_f32,
          .run_bf16 = RunBf16Tiles<Tiles>,
          .run_int8 = RunExpanded<Int8Numbers, ToBf16Pairs, RunBf16Tiles<Tiles>>,
          .run_fp8 = RunExpanded<F8Numbers, ToBf16Pairs, RunBf16Tiles<Tiles>>,
          .merge = others.merge,
          .writes_int8_out = true,
          .writes_blocks = true};
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
