// How a group's whole-number products join an output's sum on AVX512-BF16: centre and minimum by
// one dot product of bf16 pairs. Where every 512-bit multiplication is issued at the rate of a dot
// product of bytes (Zen 4), a group of nibbles costs 11 of them instead of the 12 of
// int8_join-inl.h. Bits differ from those of the other sets.
//
// With codes q counted from the middle of their range a weight is d * (q + mu), as the strip holds
// it (CountFromMiddle), mu being small beside q, and activations are scale * v + centre:
//   sum of w * x = d * (scale * sum of q * v + centre * sum of q + mu * total)
// A centre is a bf16 number and so is the sum of 32 such q of 4 bits (of 5 bits above 256 the last
// bit is cut): rounded are total and mu. Where mu is large and activations have a common offset
// many times their spread, that is more than quantising them costs. Included by op_dtype_isa files
// only.
#pragma once
#include "kernels/cpu/dot_pairs-inl.h"
#include "kernels/cpu/int8_formats-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// The low halves of `low` and the high halves of `high`.
MODU_INLINE Int JoinHalves(Int low, Int high) {
  const Int upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  return _mm512_or_si512(_mm512_andnot_si512(upper, low), _mm512_and_si512(upper, high));
}

/// Formats with a minimum: c + d * DotPairs(scale * dot, (mu, sums), (bf16(total), centre)), dot
/// and sums of codes less the middle. Others, for each part: c + d * (scale * dot + centre * sums),
/// as PlainJoin. Products and the fma are rounded once.
struct PairsJoin {
  static constexpr PreparedKind kActivations = PreparedKind::kInt8Pairs;
  using Row = Int8PairsGroup;

  struct Facts {
    alignas(64) std::byte pairs[4 * kStrip];  // mu and the sums, in bf16
  };
  template <typename Format>
  static constexpr bool kHasFacts = Format::kMin;

  template <typename Format>
  static MODU_INLINE void MakeFacts(const std::byte* group, int vector, Facts& facts) {
    static_assert(Format::kParts == 1);
    const Float sums =
        Sub(CodeSums<Format>(group, 0, vector), Set(static_cast<float>(kGroup * Format::kMiddle)));
    StoreInt(facts.pairs + 4 * kLanes * vector,
             JoinHalves(Format::Mu(group, vector), _mm512_castps_si512(sums)));
  }

  template <typename Format, typename Dots>
  static MODU_INLINE void Begin(const Row& a, Dots& dots) {
    if constexpr (Format::kMin) dots.sum = SetInt(Format::kMiddle / 8 * a.minus_sum);
  }

  struct Columns {
    Float d, sums;
    Int pair;
  };
  template <typename Format>
  static MODU_INLINE Columns Load(const std::byte* group, int part, int vector,
                                  const Facts& facts) {
    if constexpr (Format::kMin) {
      return {Format::D(group, part, vector), Zero(), LoadCodes(facts.pairs + 4 * kLanes * vector)};
    } else {
      return {Format::D(group, part, vector), CodeSums<Format>(group, part, vector), SetInt(0)};
    }
  }

  template <typename Format>
  static MODU_INLINE Float Add(Float c, Int dot, const Columns& columns, const Row& a) {
    if constexpr (Format::kMin) {
      const Float sum = Mul(Set(a.scale), ToFloat(dot));
      return Fma(columns.d, DotPairs(sum, columns.pair, SetInt(static_cast<int>(a.pair))), c);
    } else {
      if constexpr (Format::kOffset != 0) {
        dot = SubInt(dot, SetInt(-Format::kOffset / 8 * a.minus_sum));
      }
      const Float sum = Fma(Set(a.scale), ToFloat(dot), Mul(Set(a.centre), columns.sums));
      return Fma(columns.d, sum, c);
    }
  }
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
