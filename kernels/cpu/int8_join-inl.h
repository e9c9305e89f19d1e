// How the products of a pair of groups join an output's sum, in whole numbers: the same bits on all
// instruction sets, whatever the blocking or the order.
//
// A weight is d * (q + mu) with q its code less the middle, activations are those of Int8Pair. With
// everything in the row's unit and the output's (packed_weight.h), both groups' products side by
// side in int16 halves:
//   x    = (sum of q * values) >> kShift, rounded           one dword, two groups
//   y    = x * scales / 2^15, rounded                       in units of the row
//   S    = D * (sum of q << 10 >> kShift) / 2^15, rounded   for both groups, all rows
//   c   += y * D + centres * S + totals * M, both halves    D: d, M: d * mu / 8, in units of the
//                                                           output (that of a format whose
//                                                           products are shifted counts for it)
// An output is c * its unit * the row's unit. What y and centre stand for together are 32 products
// of a code and at most kInt8Steps units, below 2^15, and totals, in eighths, are too. Packing
// bounds the sum of |D| and |M|, so that the last c fits 32 bits; those before it may wrap. Where a
// 512-bit multiplication of any kind is issued at the rate of a dot product of bytes (Zen 4), two
// groups of nibbles cost 16 of those and 3 more (of many rows less: linear_int8_winograd-inl.h).
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_formats-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// What a group's products with codes as they are stored are added to, to be those with codes from
/// the middle, rounded for kShift; begin: Int8Pair's first_begin or second_begin.
template <typename Format>
MODU_INLINE Int BeginOf(int32_t begin) {
  return SetInt(Format::kMiddle / 8 * begin + (1 << Format::kShift >> 1));
}

/// Two groups' products in one dword that needs no shift: second * 2^16 + first + 2^15. The halves
/// would borrow from each other; with the first one's sign turned they do not.
MODU_INLINE Int SplitHalves(Int x) { return XorInt(x, SetInt(0x8000)); }

/// The same from products apart, as BeginOf began them.
template <typename Format>
MODU_INLINE Int JoinDots(Int first, Int second) {
  return JoinHalves(ShiftDown<Format::kShift>(first), ShiftUp<16 - Format::kShift>(second));
}

/// c, joined by one part of a pair: x in halves.
MODU_INLINE Int AddScaled(Int c, Int x, Int scales, const Int8Pair& a) {
  return AddProducts(c, ScaleHalves(x, SetInt(static_cast<int>(a.scales))), scales);
}
/// S, what centres multiply, from both groups' sums of codes.
template <typename Format>
MODU_INLINE Int CentreFactors(const std::byte* pair, int part, int vector, Int first, Int second) {
  return ScaleHalves(PairSums<Format>(first, second),
                     ShiftHalvesUp<3>(ScalesOf<Format>(pair, part, vector)));
}
template <typename Format>
MODU_INLINE Int CentreFactors(const std::byte* pair, int part, int vector) {
  const Int first = CodeSums<Format>(CodesOf<Format>(pair, 0), part, vector);
  const Int second = CodeSums<Format>(CodesOf<Format>(pair, 1), part, vector);
  return CentreFactors<Format>(pair, part, vector, first, second);
}
MODU_INLINE Int AddCentres(Int c, Int factors, const Int8Pair& a) {
  return AddProducts(c, factors, SetInt(static_cast<int>(a.centres)));
}
MODU_INLINE Int AddMinimums(Int c, Int minimums, const Int8Pair& a) {
  return AddProducts(c, minimums, SetInt(static_cast<int>(a.totals)));
}

/// What a chunk's whole sums of one row and register of columns are worth, added to `before`.
MODU_INLINE Float AddChunk(Int c, Float output_units, float row_unit, Float before) {
  return Fma(Mul(ToFloat(c), output_units), Set(row_unit), before);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
