// How pairs of groups of each quantised strip format lie in memory, for the int8 products of all
// instruction sets. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/packed_weight.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kVectorsPerStrip = kStrip / kLanes;

/// The 64-byte line z of the codes of register `vector`'s columns.
template <int kBytesPer16Columns>
MODU_INLINE const std::byte* CodesAt(const std::byte* group, int vector, int z) {
  const int column = vector * kLanes;
  return group + column / 16 * kBytesPer16Columns + column % 16 * 4 + 64 * z;
}

/// The int8 form of a strip format (packed_weight.h). Codes count from kMiddle; a group's products
/// are below 2^(15 + kShift) in size, with an activation of at most kInt8Steps.
struct W4 {  // two codes a byte; a line holds 8 inputs of 16 columns
  static constexpr StripFormat kFormat = StripFormat::kW4F16;  // kW4F32 is the same in int8
  static constexpr bool kNibbles = true, kSigned = false, kMin = true;
  static constexpr int kParts = 1;  // stretches of a group's inputs with a d of their own
  static constexpr int kMiddle = CodeMiddle(kFormat), kShift = ProductShift(kFormat);
};
struct W8 {  // one code a byte, here and below; a line holds 4 inputs of 16 columns
  static constexpr StripFormat kFormat = StripFormat::kW8F16;
  static constexpr bool kNibbles = false, kSigned = false, kMin = false;
  static constexpr int kParts = 1, kMiddle = CodeMiddle(kFormat), kShift = ProductShift(kFormat);
};
struct W8Min {
  static constexpr StripFormat kFormat = StripFormat::kW8Min;
  static constexpr bool kNibbles = false, kSigned = false, kMin = true;
  static constexpr int kParts = 1, kMiddle = CodeMiddle(kFormat), kShift = ProductShift(kFormat);
};
struct W8Half {
  static constexpr StripFormat kFormat = StripFormat::kW8Half;
  static constexpr bool kNibbles = false, kSigned = true, kMin = false;
  static constexpr int kParts = 2, kMiddle = CodeMiddle(kFormat), kShift = ProductShift(kFormat);
};

/// Bytes between arrays of a strip's scales; one array is 32 dwords.
constexpr int kScalesBytes = 4 * kStrip;

/// One group's codes of a pair: g is 0 or 1, which comes first.
template <typename Format>
MODU_INLINE const std::byte* CodesOf(const std::byte* pair, int g) {
  return pair + (1 - g) * CodeBytes(Format::kFormat);
}
/// What register `vector` of a part's scales (the part after the last: minimums) holds of a pair.
template <typename Format>
MODU_INLINE Int ScalesOf(const std::byte* pair, int part, int vector) {
  return LoadCodes(pair + 2 * CodeBytes(Format::kFormat) + part * kScalesBytes +
                   4 * kLanes * vector);
}

/// Sums of the codes of one part of one group, counted from the middle instead of 0.
template <typename Format>
MODU_INLINE Int FromMiddle(Int sums) {
  return AddInt(sums, SetInt(-kGroup / Format::kParts * Format::kMiddle));
}

/// The sum of each column's codes of one part of one group, from the middle.
template <typename Format>
MODU_INLINE Int CodeSums(const std::byte* codes, int part, int vector) {
  constexpr int kLines = 8 / Format::kParts;
  Int sum = SetInt(0);
  if constexpr (Format::kNibbles) {
    Int four = SetInt(0);  // at most 8 * 15 in a byte
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) {
      const Int x = LoadCodes(CodesAt<256>(codes, vector, z));
      four = AddCodes(four, AddCodes(LowNibbles(x), HighNibbles(x)));
    }
    sum = AddFour(four);
  } else {
#pragma GCC unroll 8
    for (int z = part * kLines; z < (part + 1) * kLines; ++z) {
      const Int x = LoadCodes(CodesAt<512>(codes, vector, z));
      sum = Format::kSigned ? OnesDot(sum, x) : AddInt(sum, AddFour(x));
    }
  }
  return FromMiddle<Format>(sum);
}

/// Both groups' sums of codes in halves, so far up that a half just holds them.
template <typename Format>
MODU_INLINE Int PairSums(Int first, Int second) {
  constexpr int kUp = 7 - Format::kShift;
  return JoinHalves(ShiftUp<kUp>(first), ShiftUp<kUp + 16>(second));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
