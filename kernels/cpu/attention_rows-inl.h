// The walk of attention over steps of one or two tiles of up to 16 query rows and pieces of 256
// tokens, whatever the products: scores, softmax of the piece in powers of two, probabilities
// rounded as the products take them, weighted values. Rows of a step are independent, and a token
// outside a row's view has probability 0, which adds nothing, so bits depend on the row alone.
// Included by op_dtype_isa files only.
#pragma once
#include <concepts>

#include "kernels/cpu/attention_pieces-inl.h"
#include "kernels/cpu/attention_softmax-inl.h"
#include "kernels/cpu/row_tiles-inl.h"
#include "kernels/cpu/vector_bf16-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr float kLn2 = 0.693147180559945309f;

/// Query rows of one item as A tiles, and what one step of rows needs for one piece.
struct TileScratch {
  float* scores;             // [kMaxStepRows][kScoreStride]
  std::byte* probabilities;  // [16][kProbabilityStride]: 16 bits a token; bf16 has its in place
  std::byte* values;         // V of the first and the last seen block, what nobody sees zeroed
  float* piece;              // [kMaxStepRows] states
  float* totals;             // [rows] running states
  std::byte* q;              // [tile of 16 rows] QueryTileBytes
};

TileScratch SplitForTiles(float* scratch, int rows, int padded_dim) {
  TileScratch s;
  s.scores = scratch;
  float* at = s.scores + kMaxStepRows * kScoreStride;
  s.probabilities = reinterpret_cast<std::byte*>(at);
  at += kTileMaxRows * kProbabilityStride / 4;
  s.values = reinterpret_cast<std::byte*>(at);
  at += kKvBlockTokens * padded_dim;
  s.piece = at;
  at += kMaxStepRows * StateFloats(padded_dim);
  s.totals = at;
  at += rows * StateFloats(padded_dim);
  s.q = reinterpret_cast<std::byte*>(at);
  return s;
}

/// visit.operator()<kWhole>(token) for each block of [begin, end); kWhole: the row, which sees
/// [first, last), sees all of it. (It need not see all blocks that its step sees.)
template <typename Visit>
MODU_INLINE void ForBlocks(int begin, int end, int first, int last, const Visit& visit) {
  const int whole_end = last / kKvBlockTokens * kKvBlockTokens;
  int i = begin;
  for (; i < end && i < first; i += kKvBlockTokens) visit.template operator()<false>(i);
  for (; i < end && i < whole_end; i += kKvBlockTokens) visit.template operator()<true>(i);
  for (; i < end; i += kKvBlockTokens) visit.template operator()<false>(i);
}

/// Of what a row sees, tokens [first, last) of the piece, in blocks [begin, end) tokens of it.
MODU_INLINE float TopScore(const float* scores, int begin, int end, int first, int last) {
  Group top[2] = {SetGroup(kLowest), SetGroup(kLowest)};
  ForBlocks(begin, end, first, last, [&]<bool kWhole>(int i) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const int token = i + 16 * half;
      Group x = LoadGroup(scores + token);
      for (int p = 0; p < kParts; ++p) {
        if constexpr (!kWhole) {
          const int at = token + p * kLanes;
          x.part[p] = Select(x.part[p], Set(kLowest), first - at, last - at);
        }
        top[half].part[p] = Max(x.part[p], top[half].part[p]);
      }
    }
  });
  for (int p = 0; p < kParts; ++p) top[0].part[p] = Max(top[0].part[p], top[1].part[p]);
  return Max(top[0]);
}

/// One row's scores of a piece. Tokens count from the piece's first: the row sees [first, last),
/// the blocks that its step sees are [begin, end).
struct ScoredRow {
  float* scores;
  int begin, end;
  int first, last;
  float top;                   // TopScore
  const float* const* scales;  // [blocks of a piece]: V's, of 32 tokens each; null: none
};

/// 2^(score - top) of all blocks, 0 for what the row does not see, each times its token's scale:
/// write(token, x), 32 tokens at a time. Returns the sum without the scales, over 32 fixed lanes.
template <typename Write>
MODU_INLINE float ScaledPowers(const ScoredRow& row, const Write& write) {
  Group sum[2] = {SetGroup(0.0f), SetGroup(0.0f)};
  const int first = row.first, last = row.last;
  ForBlocks(row.begin, row.end, first, last, [&]<bool kWhole>(int i) {
    Group x[2];
    const float* const scale = row.scales[i / kKvBlockTokens];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      x[half] = LoadGroup(row.scores + i + 16 * half);
      for (int p = 0; p < kParts; ++p) {
        const int lane = 16 * half + p * kLanes;
        x[half].part[p] = PowerOfTwoBelowOne(Sub(x[half].part[p], Set(row.top)));
        if constexpr (!kWhole) {
          x[half].part[p] = Select(x[half].part[p], Zero(), first - i - lane, last - i - lane);
        }
        sum[half].part[p] = Add(sum[half].part[p], x[half].part[p]);
        x[half].part[p] = Mul(x[half].part[p], Load(scale + lane));
        if constexpr (!kWhole) {  // a scale that nobody wrote
          x[half].part[p] = Select(x[half].part[p], Zero(), first - i - lane, last - i - lane);
        }
      }
    }
    write(i, x);
  });
  for (int p = 0; p < kParts; ++p) sum[0].part[p] = Add(sum[0].part[p], sum[1].part[p]);
  return Sum(sum[0]);
}

/// What the walk asks of the products of a kind of KV.
template <typename Products>
concept MakesProducts =
    requires(Products products, const AttentionItem& item, const TileScratch& scratch, int n,
             std::byte* packed, const SeenBlocks& seen, const ScoredRow& row, BlocksAhead ahead,
             float* out) {
      // Query rows that are walked at once, 16 or 32.
      { Products::kStepRows } -> std::convertible_to<int>;
      // Of 16 query rows as it reads them: bytes, and rows [first, first + n) packed so, times
      // log2(e).
      { Products::QueryTileBytes(n) } -> std::same_as<int64_t>;
      Products::PackQueries(item, n, n, packed);
      // (item, piece), before any of its rows' steps over a piece.
      products.Open(item, n);
      // (rows, head_dim), before what follows and whenever rows change; and after all.
      products.Configure(n, n);
      products.Release();
      // (item, q, rows, piece_start, seen, ahead, scores): of whole blocks, to
      // scores[row][token - piece_start], rows kScoreStride apart.
      products.Score(item, packed, n, n, seen, ahead, out);
      // (row of the step, its scores): makes probabilities of them, as Weigh takes them.
      products.Round(n, row);
      // (item, scratch, rows, piece_start, seen, ahead, states, stride): of each row P V to its
      // state and the sum of P to the state's second float; the header's others may be anything.
      products.Weigh(item, scratch, n, n, seen, ahead, out, int64_t{n});
      // Bytes of V in a block; lines of K and of V at which it fetches ahead in a block.
      { Products::ValueBytes(item) } -> std::same_as<int64_t>;
      { Products::KeyLines(item) } -> std::same_as<int>;
      { Products::ValueLines(item) } -> std::same_as<int>;
      // Whether probabilities are to be multiplied with scales, a block's 32 tokens' at
      // ValueScales(item, block).
      { Products::kScaledValues } -> std::convertible_to<bool>;
    };

/// What the rows of a step see of a piece.
template <int kMostRows>
class RowViews {
 public:
  RowViews(const AttentionItem& item, int first_row, int rows, int piece)
      : piece_start_(piece * kPieceTokens) {
    const int piece_end = piece_start_ + kPieceTokens;
    int position = item.first_position + first_row / item.group;
    all_whole_ = item.window == 0 && position + 1 >= piece_end;  // of most steps
    if (all_whole_) {
      seen_.first = piece_start_, seen_.last = piece_end;
      rows_that_see_ = rows == 32 ? ~0u : (1u << rows) - 1;
    } else {
      LookAtEach(item, position, first_row % item.group, rows);
    }
    seen_.begin = seen_.first / kKvBlockTokens;
    seen_.end = (seen_.last + kKvBlockTokens - 1) / kKvBlockTokens;
  }

  /// Of a row, tokens of the piece.
  int first(int row) const { return all_whole_ ? 0 : first_[row]; }
  int last(int row) const { return all_whole_ ? kPieceTokens : last_[row]; }
  const SeenBlocks& seen() const { return seen_; }
  unsigned rows_that_see() const { return rows_that_see_; }  // a bit each

 private:
  void LookAtEach(const AttentionItem& item, int position, int head, int rows) {
    const int piece_end = piece_start_ + kPieceTokens;
    seen_.first = piece_end, seen_.last = piece_start_;
    for (int r = 0; r < rows; ++r) {
      const int visible = FirstVisible(position, item.window);
      const int first = visible > piece_start_ ? visible : piece_start_;
      const int last = position + 1 < piece_end ? position + 1 : piece_end;
      first_[r] = first - piece_start_;
      last_[r] = last - piece_start_;
      if (first < last) {
        rows_that_see_ |= 1u << r;
        if (first < seen_.first) seen_.first = first;
        if (last > seen_.last) seen_.last = last;
      }
      if (++head == item.group) head = 0, ++position;
    }
  }

  const int piece_start_;
  bool all_whole_;
  int first_[kMostRows], last_[kMostRows];
  SeenBlocks seen_ = {};
  unsigned rows_that_see_ = 0;
};

/// One step of rows over one piece: where row r of it is to leave its state, if it sees the piece;
/// returns a bit for each row that does.
template <MakesProducts Products>
unsigned PieceOfRows(Products& products, const AttentionItem& item, const TileScratch& s,
                     int first_row, int rows, int piece, bool cold, float* states) {
  const int piece_start = piece * kPieceTokens;
  const int64_t state_floats = StateFloats(item.padded_dim);
  const RowViews<Products::kStepRows> views(item, first_row, rows, piece);
  if (views.rows_that_see() == 0) return 0;
  const SeenBlocks& seen = views.seen();

  const std::byte* const q =
      s.q + first_row / kTileMaxRows * Products::QueryTileBytes(item.head_dim);
  const auto values = [&] {
    return ValuesOf(item, seen, Products::ValueBytes(item), Products::KeyLines(item));
  };
  products.Score(item, q, rows, piece_start, seen, cold ? values() : BlocksAhead(), s.scores);
  const int begin = seen.begin * kKvBlockTokens - piece_start;
  const int end = seen.end * kKvBlockTokens - piece_start;
  // All rows' first, as each waits for what its lanes come to.
  float top[Products::kStepRows];
  for (int r = 0; r < rows; ++r) {
    top[r] = TopScore(s.scores + r * kScoreStride, begin, end, views.first(r), views.last(r));
  }
  const float* scales[kPieceTokens / kKvBlockTokens];
  if constexpr (Products::kScaledValues) {
    for (int block = seen.begin; block < seen.end; ++block) {
      scales[block - piece_start / kKvBlockTokens] = Products::ValueScales(item, block);
    }
  }
  for (int r = 0; r < rows; ++r) {
    const ScoredRow row = {.scores = s.scores + r * kScoreStride,
                           .begin = begin,
                           .end = end,
                           .first = views.first(r),
                           .last = views.last(r),
                           .top = top[r],
                           .scales = Products::kScaledValues ? scales : nullptr};
    products.Round(r, row);
  }
  const auto keys = [&] { return KeysAfter(item, piece, seen, Products::ValueLines(item)); };
  products.Weigh(item, s, rows, piece_start, seen, cold ? keys() : BlocksAhead(), states,
                 state_floats);
  for (int r = 0; r < rows; ++r) states[r * state_floats] = top[r] * kLn2;
  return views.rows_that_see();
}

/// One head of tokens [first, last), up to 16, as tiles.
void FinishBlock(const AttentionItem& item, const float* totals, int first, int last, int head,
                 std::byte* to) {
  alignas(64) float rows[kTileMaxRows * kMostBlockDims];
  for (int t = first; t < last; ++t) {
    Finish(totals + (t * item.group + head) * StateFloats(item.padded_dim), item.head_dim,
           item.value_span, rows + (t - first) * item.head_dim);
  }
  for (int d = 0; d < item.head_dim; d += kGroup, to += kTileBytes) {
    StoreRowTile(rows + d, item.head_dim, last - first, to);
  }
}

/// What the rows' states come to, to where the item says.
void FinishRows(const AttentionItem& item, const float* totals) {
  const OutBlocks& blocks = item.blocks;
  std::byte* block = blocks.at;
  for (int t = 0; t < item.num_tokens;) {
    if (block != nullptr && t >= blocks.begin && t < blocks.end) {
      const int last = blocks.end - t < kTileMaxRows ? blocks.end : t + kTileMaxRows;
      for (int h = 0; h < item.group; ++h) {
        FinishBlock(item, totals, t, last, h, block + h * item.head_dim / kGroup * kTileBytes);
      }
      block += blocks.block_bytes;
      t = last;
      continue;
    }
    for (int h = 0; h < item.group; ++h) {
      Finish(totals + (t * item.group + h) * StateFloats(item.padded_dim), item.head_dim,
             item.value_span, item.out + t * item.out_stride + h * item.head_dim);
    }
    ++t;
  }
}

template <MakesProducts Products>
void RunTiles(const AttentionItem& item) {
  static_assert(Products::kStepRows <= kMaxStepRows && Products::kStepRows % kTileMaxRows == 0);
  const int rows = item.num_tokens * item.group;
  const int64_t state_floats = StateFloats(item.padded_dim);
  TileScratch s = SplitForTiles(item.scratch, rows, item.padded_dim);
  if (item.states != nullptr) s.totals = item.states;
  for (int row = 0; row < rows && !item.packed; row += kTileMaxRows) {
    const int n = rows - row < kTileMaxRows ? rows - row : kTileMaxRows;
    Products::PackQueries(item, row, n,
                          s.q + row / kTileMaxRows * Products::QueryTileBytes(item.head_dim));
  }
  if (item.states == nullptr) {
    for (int row = 0; row < rows; ++row) s.totals[row * state_floats + kHasPieces] = 0.0f;
  }
  Products products;
  int configured = 0;
  for (int piece = item.piece_begin; piece < item.piece_end; ++piece) {
    products.Open(item, piece);
    for (int row = 0; row < rows; row += Products::kStepRows) {
      const int n = rows - row < Products::kStepRows ? rows - row : Products::kStepRows;
      if (n != configured) products.Configure(n, item.head_dim);
      configured = n;
      float* const totals = s.totals + row * state_floats;
      // The first piece of all leaves its states where they go on from, without a window of every
      // row.
      const bool fresh = piece == 0 && item.window == 0;
      float* states = fresh ? totals : s.piece;
      if (item.partials != nullptr) {
        const int64_t at = static_cast<int64_t>(piece - item.piece_begin) * rows + row;
        states = item.partials + at * state_floats;
      }
      const unsigned seen = PieceOfRows(products, item, s, row, n, piece, row == 0, states);
      if (item.partials != nullptr) continue;
      if (fresh) {
        for (int r = 0; r < n; ++r) totals[r * state_floats + kHasPieces] = 1.0f;
      } else {
        MergeStates<Products::kStepRows>(states, n, seen, item.padded_dim, totals);
      }
    }
  }
  products.Release();
  if (item.partials != nullptr || item.out == nullptr) return;
  FinishRows(item, s.totals);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
