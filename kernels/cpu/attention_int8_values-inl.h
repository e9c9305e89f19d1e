// Weighted values of int8 KV (kernels/kv_codes.h) as it lies: exact sums of V's codes times
// probabilities that have gone through the tokens' scales and are rounded to 16 bits with a scale
// for each row and piece. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_halves-inl.h"
#include "kernels/cpu/attention_rows-inl.h"
#include "kernels/kv_codes.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Sums over a piece fit 32 bits.
constexpr float kLargestProbability = 32767.0f;
static_assert(double{kMore} * kLargestProbability * kPieceTokens < 0x1p31);
/// Scaled probabilities of a row that are all below this are zeros: kLargestProbability over the
/// largest must be finite. V's least scales that are not 0 are above it.
constexpr float kLeastProbability = 1e-34f;
static_assert(double{kLargestProbability} / kLeastProbability < 0x1p128);
static_assert(kLeastKvMagnitude / kLargestInt8Code > kLeastProbability);

/// Of rounded probabilities of 16 rows: what they count in, and their sum.
struct ProbabilityRows {
  float unit[kTileMaxRows];
  int32_t total[kTileMaxRows];
};

/// Weighted values, by groups of 16 dims.
struct GroupValues {
  const std::byte* probabilities;  // rows kProbabilityStride apart
  const ProbabilityRows* rows;
  const std::byte* const* v;  // [blocks]
  int blocks;
  float* out;
  int64_t out_stride;
};
constexpr int64_t kGroupBytes = int64_t{16} * kKvBlockTokens;

template <int kRows, int kLines>
void WeighGroups(const GroupValues& p, int row, int group, BlocksAhead& ahead) {
  HalvesSums<kRows, kLines> sums(p.rows->total + row);
  const std::byte* weights = p.probabilities + row * kProbabilityStride;
  for (int block = 0; block < p.blocks; ++block) {
    const std::byte* v = p.v[block] + group * kGroupBytes;
    for (int quad = 0; quad < kKvBlockTokens / 4; ++quad, v += 64, weights += 8) {
      if (quad % kFetchEvery == 0) ahead.Fetch<kFetchEvery * kLines>();
      sums.Add(v, kGroupBytes, weights, kProbabilityStride);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Float unit = Set(p.rows->unit[row + r]);
#pragma GCC unroll 4
    for (int i = 0; i < sums.kRegisters; ++i) {
      Store(p.out + (row + r) * p.out_stride + group * 16 + i * kLanes,
            Mul(ToFloat(sums.sum[r][i]), unit));
    }
  }
}

/// One group or two.
template <int kRows>
void WeighTwo(const GroupValues& p, int row, int group, bool two, BlocksAhead& ahead) {
  if constexpr (LinesSideBySide(kRows) == 2) {
    if (two) return WeighGroups<kRows, 2>(p, row, group, ahead);
  }
  WeighGroups<kRows, 1>(p, row, group, ahead);
  if (two) WeighGroups<kRows, 1>(p, row, group + 1, ahead);
}

/// The half of Products (attention_rows-inl.h) that values take.
class Int8Values {
 public:
  static constexpr bool kScaledValues = true;
  static constexpr int kStepRows = kTileMaxRows;
  void Configure(int, int) {}
  void Open(const AttentionItem&, int) {}
  void Release() {}

  static const float* ValueScales(const AttentionItem& item, int block) {
    return reinterpret_cast<const float*>(item.k + item.BlockOffset(block) + item.v_offset +
                                          int64_t{kKvBlockTokens} * item.padded_dim);
  }

  /// Leaves them as floats where the scores were: what they are rounded by is known at their end.
  void Round(int r, const ScoredRow& row) {
    Group largest = SetGroup(0.0f);
    sum_[r] = ScaledPowers(row, [&](int token, const Group(&x)[2]) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        StoreGroup(row.scores + token + 16 * half, x[half]);
        for (int i = 0; i < kParts; ++i) {
          largest.part[i] = Max(x[half].part[i], largest.part[i]);
        }
      }
    });
    largest_[r] = Max(largest);
  }

  void Weigh(const AttentionItem& item, const TileScratch& s, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* states, int64_t stride) {
    const std::byte* v[kPieceTokens / kKvBlockTokens];
    const GroupValues p = GroupsOf(item, s, piece_start, seen, states + kStateHeader, stride, v);
    LeaveSums(rows, states, stride);
    for (int r = 0; r < rows; ++r) {
      Int total = SetInt(0);
      ForRounded(s, r, piece_start, seen,
                 [&](const Group(&x)[2], std::byte* out) { total = StoreHalves(x, out, total); });
      rows_.total[r] = SumOf(total);
    }
    BlocksAhead none;
    const int groups = item.padded_dim / 16;
    for (int g = 0; g < groups; g += 2) {
      ForRowBlocks(rows, [&]<int kRows>(int row) {
        WeighTwo<kRows>(p, row, g, g + 1 < groups, row == 0 ? ahead : none);
      });
    }
  }

  static int64_t ValueBytes(const AttentionItem& item) {
    return int64_t{kKvBlockTokens} * (item.padded_dim + static_cast<int64_t>(sizeof(float)));
  }
  static int ValueLines(const AttentionItem& item) {
    return item.padded_dim / 16 * (kKvBlockTokens / 4);
  }

 protected:
  /// v: [blocks of a piece], to be filled.
  GroupValues GroupsOf(const AttentionItem& item, const TileScratch& s, int piece_start,
                       const SeenBlocks& seen, float* o, int64_t o_stride,
                       const std::byte** v) const {
    const int blocks = seen.end - seen.begin;
    for (int b = 0; b < blocks; ++b) {
      v[b] = item.k + item.BlockOffset(seen.begin + b) + item.v_offset;
    }
    return {.probabilities = s.probabilities + 2 * (seen.begin * kKvBlockTokens - piece_start),
            .rows = &rows_,
            .v = v,
            .blocks = blocks,
            .out = o,
            .out_stride = o_stride};
  }

  void LeaveSums(int rows, float* states, int64_t stride) const {
    for (int r = 0; r < rows; ++r) states[r * stride + 1] = sum_[r];
  }

  /// store(x, out): row r's probabilities in the unit that it is given, 32 tokens at a time, and
  /// where they go. Apart from Round, so that no row waits for its largest.
  template <typename StoreRounded>
  MODU_INLINE void ForRounded(const TileScratch& s, int r, int piece_start, const SeenBlocks& seen,
                              const StoreRounded& store) {
    const bool any = largest_[r] >= kLeastProbability;
    rows_.unit[r] = any ? largest_[r] / kLargestProbability : 0.0f;
    const Float inverse = Set(any ? kLargestProbability / largest_[r] : 0.0f);
    const float* const scaled = s.scores + r * kScoreStride;
    std::byte* const out = s.probabilities + r * kProbabilityStride;
    const int end = seen.end * kKvBlockTokens - piece_start;
    for (int token = seen.begin * kKvBlockTokens - piece_start; token < end;
         token += kKvBlockTokens) {
      Group x[2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        x[half] = LoadGroup(scaled + token + 16 * half);
        for (int i = 0; i < kParts; ++i) x[half].part[i] = Mul(x[half].part[i], inverse);
      }
      store(x, out + 2 * token);
    }
  }

 private:
  float largest_[kTileMaxRows], sum_[kTileMaxRows];
  ProbabilityRows rows_;
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
