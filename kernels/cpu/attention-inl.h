// Attention over paged KV, written once over vector-inl.h. Per tile of up to kTileRows query rows
// (all of one KV head, so K and V are read once for the whole group) and per piece of 256 tokens:
//   1. scores: lanes are tokens; each score is one chain of FMAs over rising dims;
//   2. softmax of the piece: max, exp, sum over 16 fixed lanes;
//   3. o = P V: lanes are dims; each element is one chain of FMAs over rising tokens.
// Every chain is the same whatever the tile, so blocking never shows in the bits. A token outside a
// row's view never enters its chains (it may be NaN or not yet written): rows of a tile share the
// positions that all of them see and walk the rest alone.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_expand-inl.h"
#include "kernels/cpu/attention_int16-inl.h"
#include "kernels/cpu/attention_loops-inl.h"
#include "kernels/cpu/attention_softmax-inl.h"
#include "kernels/cpu/kv_cache.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

// Accumulators that leave room for operands: 12 of 16 registers, 16 of 32.
constexpr int kAccumulators = kParts == 2 ? 12 : 16;
constexpr int kTileRows = kParts == 2 ? 6 : 8;

/// Groups of 16 that a tile of `rows` rows computes side by side.
constexpr int GroupsSideBySide(int rows) { return rows * 2 * kParts <= kAccumulators ? 2 : 1; }

/// A pair of adjacent K dims (or V tokens) for 16 lanes, as bf16 dwords or as two float rows.
struct Bf16Pairs {
  static constexpr bool kIsBf16 = true;
  static constexpr int kBytes = 64;
  template <int kHalf>
  static MODU_INLINE Float Get(const std::byte* p, int part) {
    const Int x = LoadPairs(p + part * kLanes * 4);
    if constexpr (kHalf == 0) return LowHalves(x);
    return HighHalves(x);
  }
};
struct F32Pairs {
  static constexpr bool kIsBf16 = false;
  static constexpr int kBytes = 128;
  template <int kHalf>
  static MODU_INLINE Float Get(const std::byte* p, int part) {
    return Load(reinterpret_cast<const float*>(p) + kHalf * 16 + part * kLanes);
  }
};

/// acc[r] += x[r] * (pair half kHalf) for kGroups groups that lie group_bytes apart; x[r] at
/// x + r * kStep.
template <class Pairs, int kHalf, int kRows, int kGroups, int kStep>
MODU_INLINE void MultiplyAdd(const float* x, const std::byte* p, int64_t group_bytes,
                             Float (&acc)[kRows][kGroups * kParts]) {
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) {
    Float v[kParts];
#pragma GCC unroll 8
    for (int part = 0; part < kParts; ++part) {
      v[part] = Pairs::template Get<kHalf>(p + g * group_bytes, part);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Float b = Set(x[r * kStep]);
#pragma GCC unroll 8
      for (int part = 0; part < kParts; ++part) {
        Accumulate(acc[r][g * kParts + part], b, v[part]);
      }
    }
  }
}

/// Scores of kRows rows for kGroups groups of 16 tokens. q is [dim][kRows].
/// ahead: byte distance to lines worth prefetching, 0 for none.
template <class Pairs, int kRows, int kGroups>
MODU_INLINE void Score(const float* q, const std::byte* k, int64_t group_bytes, int pairs,
                       int64_t ahead, float* scores) {
  if constexpr (HasFastTile(kRows, kGroups)) {
    ScoreTile<Pairs::kIsBf16, kRows>(q, k, group_bytes, pairs, ahead, scores);
    return;
  }
  Float acc[kRows][kGroups * kParts];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups * kParts; ++g) acc[r][g] = Zero();
  }
  for (int i = 0; i < pairs; ++i) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) __builtin_prefetch(k + g * group_bytes + ahead, 0, 2);
    MultiplyAdd<Pairs, 0, kRows, kGroups, 1>(q, k, group_bytes, acc);
    MultiplyAdd<Pairs, 1, kRows, kGroups, 1>(q + kRows, k, group_bytes, acc);
    q += 2 * kRows;
    k += Pairs::kBytes;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups * kParts; ++g)
      Store(scores + r * kScoreStride + g * kLanes, acc[r][g]);
  }
}

/// o[r] += the weighted pairs of tokens at p, for kGroups groups of 16 dims. kLow, kHigh: whether
/// the pairs' first and second tokens take part.
template <class Pairs, int kRows, int kGroups, bool kLow, bool kHigh>
MODU_INLINE void WeighPairs(const float* weight, const std::byte* p, int pairs, int64_t ahead,
                            float* o, int64_t o_stride) {
  constexpr int64_t kGroupBytes = int64_t{Pairs::kBytes} * (kKvBlockTokens / 2);
  if constexpr (kLow && kHigh && HasFastTile(kRows, kGroups)) {
    WeighTile<Pairs::kIsBf16, kRows>(weight, p, kGroupBytes, pairs, ahead, o, o_stride);
    return;
  }
  Float acc[kRows][kGroups * kParts];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups * kParts; ++g) acc[r][g] = Load(o + r * o_stride + g * kLanes);
  }
  for (int i = 0; i < pairs; ++i) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) __builtin_prefetch(p + g * kGroupBytes + ahead, 0, 2);
    if constexpr (kLow)
      MultiplyAdd<Pairs, 0, kRows, kGroups, kScoreStride>(weight, p, kGroupBytes, acc);
    if constexpr (kHigh) {
      MultiplyAdd<Pairs, 1, kRows, kGroups, kScoreStride>(weight + 1, p, kGroupBytes, acc);
    }
    p += Pairs::kBytes;
    weight += 2;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups * kParts; ++g) Store(o + r * o_stride + g * kLanes, acc[r][g]);
  }
}

/// o[r] += P[r][first..last) V for kGroups groups of 16 dims. p points at the weight of token
/// `piece_start`; v at the first group of block 0.
template <class Pairs, int kRows, int kGroups>
MODU_INLINE void WeighValues(const AttentionItem& item, const float* p, int piece_start, int first,
                             int last, const std::byte* v, const std::byte* after, float* o,
                             int64_t o_stride) {
  for (int token = first; token < last;) {
    const int block = token / kKvBlockTokens;
    const int block_start = block * kKvBlockTokens;
    const int block_end = block_start + kKvBlockTokens < last ? block_start + kKvBlockTokens : last;
    const int64_t at = item.BlockOffset(block);
    int64_t ahead = 0;
    if (after != nullptr) {
      ahead = block_start + kKvBlockTokens < last ? item.BlockOffset(block + 1) - at
                                                  : after - (item.k + item.v_offset + at);
    }
    const std::byte* pairs = v + at + (token - block_start) / 2 * Pairs::kBytes;
    const float* weight = p + (token - piece_start);
    if (token % 2 != 0) {
      WeighPairs<Pairs, kRows, kGroups, false, true>(weight - 1, pairs, 1, ahead, o, o_stride);
      pairs += Pairs::kBytes;
      ++weight;
      ++token;
    }
    const int whole = (block_end - token) / 2;
    if (whole > 0) {
      WeighPairs<Pairs, kRows, kGroups, true, true>(weight, pairs, whole, ahead, o, o_stride);
      pairs += whole * Pairs::kBytes;
      weight += 2 * whole;
      token += 2 * whole;
    }
    if (token < block_end) {
      WeighPairs<Pairs, kRows, kGroups, true, false>(weight, pairs, 1, ahead, o, o_stride);
      ++token;
    }
  }
}

/// All dims of o[r] += P[r][first..last) V. after: a block to prefetch while reading the last one;
/// null: V is in cache already, prefetch nothing.
template <class Pairs, int kRows>
void WeighValues(const AttentionItem& item, const float* p, int piece_start, int first, int last,
                 const std::byte* after, float* o, int64_t o_stride) {
  constexpr int kGroups = GroupsSideBySide(kRows);
  constexpr int64_t kGroupBytes = int64_t{Pairs::kBytes} * (kKvBlockTokens / 2);
  if (first >= last) return;
  const std::byte* v = item.k + item.v_offset;
  const int groups = item.padded_dim / 16;
  int g = 0;
  for (; g + kGroups <= groups; g += kGroups) {
    WeighValues<Pairs, kRows, kGroups>(item, p, piece_start, first, last, v + g * kGroupBytes,
                                       after, o + g * 16, o_stride);
  }
  for (; g < groups; ++g) {
    WeighValues<Pairs, kRows, 1>(item, p, piece_start, first, last, v + g * kGroupBytes, after,
                                 o + g * 16, o_stride);
  }
}

struct Scratch {
  float* scores;  // [kTileRows][kScoreStride]
  float* piece;   // [kTileRows] states of one tile and piece
  float* totals;  // [rows] running states
  float* q;       // [tile][head_dim][rows of the tile]
};

Scratch Split(float* scratch, int rows, int padded_dim) {
  Scratch s;
  s.scores = scratch;
  s.piece = s.scores + kMaxStepRows * kScoreStride;
  s.totals = s.piece + kMaxStepRows * StateFloats(padded_dim);
  s.q = s.totals + rows * StateFloats(padded_dim);
  return s;
}

/// One tile over one piece. states: where row r of the tile is to leave its state, if it sees the
/// piece; returns a bit for each row that does.
template <class Pairs, int kRows>
unsigned TilePiece(const AttentionItem& item, const float* q, int first_row, int piece, bool cold,
                   float* scores, float* states) {
  const int piece_start = piece * kPieceTokens;
  const int64_t state_floats = StateFloats(item.padded_dim);
  int first[kRows], last[kRows];
  int seen_first = piece_start + kPieceTokens, seen_last = piece_start;
  int shared_first = piece_start, shared_last = piece_start + kPieceTokens;
  unsigned seen = 0;
  for (int r = 0; r < kRows; ++r) {
    const int position = item.first_position + (first_row + r) / item.group;
    const int visible = FirstVisible(position, item.window);
    first[r] = visible > piece_start ? visible : piece_start;
    last[r] = position + 1 < piece_start + kPieceTokens ? position + 1 : piece_start + kPieceTokens;
    if (first[r] >= last[r]) {
      shared_last = shared_first = piece_start;  // some row sees nothing here: nothing is shared
      first[r] = last[r] = piece_start;
      continue;
    }
    seen |= 1u << r;
    if (first[r] < seen_first) seen_first = first[r];
    if (last[r] > seen_last) seen_last = last[r];
    if (first[r] > shared_first) shared_first = first[r];
    if (last[r] < shared_last) shared_last = last[r];
  }
  if (seen == 0) return 0;
  if (shared_first > shared_last) shared_last = shared_first;

  constexpr int kGroups = GroupsSideBySide(kRows);
  const int pairs = item.head_dim / 2;
  for (int token = seen_first / 16 * 16; token < seen_last;) {
    const int block = token / kKvBlockTokens;
    const int64_t at = item.BlockOffset(block);
    const bool upper = token % kKvBlockTokens != 0;
    const std::byte* k = item.k + at + (upper ? item.half_bytes : 0);
    int64_t ahead = 0;
    if (cold) {
      const int next = (block + 1) * kKvBlockTokens;
      ahead = next < seen_last ? item.BlockOffset(block + 1) - at
                               : item.BlockOffset(seen_first / kKvBlockTokens) + item.v_offset - at;
    }
    float* to = scores + (token - piece_start);
    if (kGroups == 2 && !upper && token + 16 < seen_last) {
      Score<Pairs, kRows, kGroups>(q, k, item.half_bytes, pairs, ahead, to);
      token += 32;
    } else {
      Score<Pairs, kRows, 1>(q, k, item.half_bytes, pairs, ahead, to);
      token += 16;
    }
  }

  for (int r = 0; r < kRows; ++r) {
    float* state = states + r * state_floats;
    if ((seen >> r & 1) == 0) continue;
    SoftmaxPiece(scores + r * kScoreStride, first[r] - piece_start, last[r] - piece_start, state);
    for (int i = 0; i < item.padded_dim; i += 16) {
      StoreGroup(state + kStateHeader + i, SetGroup(0.0f));
    }
  }
  const std::byte* after = nullptr;
  if (cold) {
    const int next = (piece_start + kPieceTokens) / kKvBlockTokens;
    after = piece + 1 < item.piece_end ? item.k + item.BlockOffset(next)
            : item.next.count > 0      ? item.next.k + item.next.blocks[0] * item.block_stride
                                       : item.k;
  }
  float* o = states + kStateHeader;
  if (shared_first < shared_last) {
    for (int r = 0; r < kRows; ++r) {
      WeighValues<Pairs, 1>(item, scores + r * kScoreStride, piece_start, first[r], shared_first,
                            nullptr, o + r * state_floats, state_floats);
    }
    WeighValues<Pairs, kRows>(item, scores, piece_start, shared_first, shared_last, after, o,
                              state_floats);
    for (int r = 0; r < kRows; ++r) {
      WeighValues<Pairs, 1>(item, scores + r * kScoreStride, piece_start, shared_last, last[r],
                            nullptr, o + r * state_floats, state_floats);
    }
  } else {
    for (int r = 0; r < kRows; ++r) {
      WeighValues<Pairs, 1>(item, scores + r * kScoreStride, piece_start, first[r], last[r],
                            nullptr, o + r * state_floats, state_floats);
    }
  }
  return seen;
}

template <class Pairs>
unsigned TilePieceOf(int rows, const AttentionItem& item, const float* q, int first_row, int piece,
                     bool cold, float* scores, float* states) {
  switch (rows) {
    case 1:
      return TilePiece<Pairs, 1>(item, q, first_row, piece, cold, scores, states);
    case 2:
      return TilePiece<Pairs, 2>(item, q, first_row, piece, cold, scores, states);
    case 3:
      return TilePiece<Pairs, 3>(item, q, first_row, piece, cold, scores, states);
    case 4:
      return TilePiece<Pairs, 4>(item, q, first_row, piece, cold, scores, states);
    case 5:
      return TilePiece<Pairs, 5>(item, q, first_row, piece, cold, scores, states);
    case 6:
      return TilePiece<Pairs, 6>(item, q, first_row, piece, cold, scores, states);
    default:
      break;
  }
  if constexpr (kTileRows >= 8) {
    if (rows == 7) return TilePiece<Pairs, 7>(item, q, first_row, piece, cold, scores, states);
    return TilePiece<Pairs, 8>(item, q, first_row, piece, cold, scores, states);
  }
  return 0;
}

/// q of rows [first, first + rows) as [dim][rows].
void PackQueries(const AttentionItem& item, int first, int rows, float* q) {
  for (int r = 0; r < rows; ++r) {
    const int row = first + r;
    const float* from =
        item.q + TokenOf(item, row / item.group) * item.q_stride + row % item.group * item.head_dim;
    for (int d = 0; d < item.head_dim; ++d) q[d * rows + r] = from[d];
  }
}

template <class Pairs>
void Run(const AttentionItem& item) {
  const int rows = item.num_tokens * item.group;
  const int64_t state_floats = StateFloats(item.padded_dim);
  Scratch s = Split(item.scratch, rows, item.padded_dim);
  if (item.states != nullptr) s.totals = item.states;
  const int tiles = (rows + kTileRows - 1) / kTileRows;
  const int tile_rows = (rows + tiles - 1) / tiles;
  for (int row = 0; row < rows && !item.packed; row += tile_rows) {
    const int n = rows - row < tile_rows ? rows - row : tile_rows;
    PackQueries(item, row, n, s.q + static_cast<int64_t>(row) * item.head_dim);
  }
  if (item.states == nullptr) {
    for (int row = 0; row < rows; ++row) s.totals[row * state_floats + kHasPieces] = 0.0f;
  }
  for (int piece = item.piece_begin; piece < item.piece_end; ++piece) {
    for (int row = 0; row < rows; row += tile_rows) {
      const int n = rows - row < tile_rows ? rows - row : tile_rows;
      float* states =
          item.partials == nullptr
              ? s.piece
              : item.partials +
                    (static_cast<int64_t>(piece - item.piece_begin) * rows + row) * state_floats;
      const unsigned seen =
          TilePieceOf<Pairs>(n, item, s.q + static_cast<int64_t>(row) * item.head_dim, row, piece,
                             row == 0, s.scores, states);
      if (item.partials != nullptr) continue;
      for (int r = 0; r < n; ++r) {
        if ((seen >> r & 1) == 0) continue;
        float* total = s.totals + (row + r) * state_floats;
        MergeState(states + r * state_floats, total[kHasPieces] == 0.0f, item.padded_dim, total);
        total[kHasPieces] = 1.0f;
      }
    }
  }
  if (item.partials != nullptr || item.out == nullptr) return;
  for (int row = 0; row < rows; ++row) {
    Finish(s.totals + row * state_floats, item.head_dim, item.value_span,
           item.out + row / item.group * item.out_stride + row % item.group * item.head_dim);
  }
}

void RunF32(const AttentionItem& item) { Run<F32Pairs>(item); }
void RunBf16(const AttentionItem& item) { Run<Bf16Pairs>(item); }

/// This level's: over int8 KV by products of 16 bits, over any other in float32.
constexpr AttentionKernels FloatAttention() {
  return {RunF32, RunBf16, RunInt16, RunExpanded<F8Numbers, ToFloats, RunF32>, Merge};
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
