// Weighted values of int8 KV for many query rows with half of the products, by Winograd's inner
// product (S. Winograd, "A New Algorithm for Inner Product", IEEE Transactions on Computers C-17,
// 1968). Of two tokens' probabilities p and q, rounded to whole numbers of 15 bits, and their codes
// u and w as they lie, with H = 2^14 so that what is multiplied has 16 bits,
//   p u + q w = (p - H + w) (q - H + u) - (p - H) (q - H) - (u - H) (w - H) + H^2
// The second product, summed over a piece, is the row's, the third the column's; the last is 0
// modulo 2^32 for a block's 16 pairs. A row's sum begins with 128 times the sum of
// its p taken off too, as codes lie 128 above what they stand for. All in whole numbers, so the
// bits are those of WeighGroups (attention_int8_values-inl.h). It gains where numbers of 16 bits
// are added more often than multiplied (linear_int8_winograd-inl.h). Included by op_dtype_isa files
// only.
#pragma once
#include "kernels/cpu/attention_int8_values-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kHalfRange = 1 << 14;
static_assert(kLargestProbability - kHalfRange + 2 * kMore <= 0x7fff);
static_assert(int64_t{kHalfRange} * kHalfRange * (kKvBlockTokens / 2) % (int64_t{1} << 32) == 0);
/// Rows of a tile from which it gains: what is the columns' takes as long as a row and a half
/// (benchmarks/results/2026-11-29-zen4-winograd-2.md).
constexpr int kFewestHalvedRows = 6;

MODU_INLINE Int AddHalves(Int a, Int b) { return _mm512_add_epi16(a, b); }
MODU_INLINE Int BothHalves(int16_t x) { return _mm512_set1_epi16(x); }

/// Sums of a row's probabilities.
struct RowSums {
  Int total;   // of them
  Int middle;  // of (p - H) (q - H); every other dword
};

/// 32 rounded probabilities, less H, to `out`: dwords of tokens (0, 1), (2, 3) ..., of which two
/// are multiplied with each other.
MODU_INLINE void StoreMiddled(const Group (&x)[2], std::byte* out, RowSums& sums) {
  const Int halves = PackHalves(x);
  sums.total = AddProducts(sums.total, halves, SetInt(0x00010001));
  const Int middled = AddHalves(halves, BothHalves(-kHalfRange));
  StoreInt(out, middled);
  sums.middle = AddProducts(sums.middle, middled, _mm512_srli_epi64(middled, 32));
}

/// One group of 16 dims of all kRows rows of a tile; starts: what each row's sum begins with.
template <int kRows>
void WeighByHalf(const GroupValues& p, const int32_t* starts, int group, BlocksAhead& ahead) {
  Int sum[kRows], column = SetInt(0);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r] = SetInt(starts[r]);
  const std::byte* weights = p.probabilities;
  for (int block = 0; block < p.blocks; ++block) {
    const std::byte* v = p.v[block] + group * kGroupBytes;
    for (int quad = 0; quad < kKvBlockTokens / 4; ++quad, v += 64, weights += 8) {
      if (quad % kFetchEvery == 0) ahead.Fetch<kFetchEvery>();
      const Int codes = LoadPairs(v);
      const Int even = And(codes, 0x00FF00FF), odd = ShiftHalvesDown<8>(codes);
      column = AddProducts(column, AddHalves(even, BothHalves(-kHalfRange)),
                           AddHalves(odd, BothHalves(-kHalfRange)));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const std::byte* const four = weights + r * kProbabilityStride;
        sum[r] =
            AddProducts(sum[r], AddHalves(PairAt(four), odd), AddHalves(PairAt(four + 4), even));
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    Store(p.out + r * p.out_stride + group * 16,
          Mul(ToFloat(_mm512_sub_epi32(sum[r], column)), Set(p.rows->unit[r])));
  }
}

template <int kRows>
void WeighAllByHalf(const GroupValues& p, int rows, const int32_t* starts, int groups,
                    BlocksAhead& ahead) {
  if constexpr (kRows > kFewestHalvedRows) {
    if (rows < kRows) return WeighAllByHalf<kRows - 1>(p, rows, starts, groups, ahead);
  }
  for (int group = 0; group < groups; ++group) WeighByHalf<kRows>(p, starts, group, ahead);
}

class WinogradValues : public Int8Values {
 public:
  void Weigh(const AttentionItem& item, const TileScratch& s, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* states, int64_t stride) {
    if (rows < kFewestHalvedRows) {
      return Int8Values::Weigh(item, s, rows, piece_start, seen, ahead, states, stride);
    }
    const std::byte* v[kPieceTokens / kKvBlockTokens];
    const GroupValues p = GroupsOf(item, s, piece_start, seen, states + kStateHeader, stride, v);
    LeaveSums(rows, states, stride);
    int32_t starts[kTileMaxRows];
    for (int r = 0; r < rows; ++r) {
      RowSums sums = {SetInt(0), SetInt(0)};
      ForRounded(s, r, piece_start, seen,
                 [&](const Group(&x)[2], std::byte* out) { StoreMiddled(x, out, sums); });
      starts[r] = static_cast<int32_t>(0u - kMore * static_cast<uint32_t>(SumOf(sums.total)) -
                                       static_cast<uint32_t>(SumOf(sums.middle)));
    }
    WeighAllByHalf<kTileMaxRows>(p, rows, starts, item.padded_dim / 16, ahead);
  }
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
