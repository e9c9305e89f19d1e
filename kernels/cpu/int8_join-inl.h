// The f32 expression that a group's whole-number products join an output's sum with. It is the same
// on AVX2, AVX-512 and AMX's tiles and the products are exact, so their bits are the same, whatever
// the blocking. (AVX512-BF16 has another: int8_pairs_join-inl.h.) Included by op_dtype_isa files
// only.
#pragma once
#include "kernels/cpu/int8_formats-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// c + m * total, then for each part + d * (scale * dot + centre * sums), each fma rounded once.
struct PlainJoin {
  static constexpr PreparedKind kActivations = PreparedKind::kInt8;
  using Row = Int8Group;

  /// What is made of a group, of one part, by the first walk over it, for all rows and walks.
  struct Facts {
    alignas(64) float sums[kStrip];  // CodeSums
  };
  template <typename Format>
  static constexpr bool kHasFacts = Format::kNibbles;

  template <typename Format>
  static MODU_INLINE void MakeFacts(const std::byte* group, int vector, Facts& facts) {
    Store(facts.sums + vector * kLanes, CodeSums<Format>(group, 0, vector));
  }

  /// What products of a row's values with codes are added to: zero.
  template <typename Format, typename Dots>
  static MODU_INLINE void Begin(const Row&, Dots&) {}

  /// Of one register of columns.
  struct Columns {
    Float d, m, sums;
  };
  template <typename Format>
  static MODU_INLINE Columns Load(const std::byte* group, int part, int vector,
                                  const Facts& facts) {
    const Float sums = kHasFacts<Format>
                           ? kernels::cpu::MODU_ISA::Load(facts.sums + vector * kLanes)
                           : CodeSums<Format>(group, part, vector);
    return {Format::D(group, part, vector), Format::M(group, vector), sums};
  }

  /// c, joined by the products `dot` with the codes of a part, as they are stored.
  template <typename Format>
  static MODU_INLINE Float Add(Float c, Int dot, const Columns& columns, const Row& a) {
    if constexpr (Format::kOffset != 0) dot = SubInt(dot, SetInt(Format::kOffset * a.sum));
    if constexpr (Format::kMin) c = Fma(columns.m, Set(a.total), c);
    const Float sum = Fma(Set(a.scale), ToFloat(dot), Mul(Set(a.centre), columns.sums));
    return Fma(columns.d, sum, c);
  }
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
