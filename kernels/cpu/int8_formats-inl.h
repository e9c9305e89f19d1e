// How pairs of groups of each quantised strip format lie in memory, for the int8 products of all
// instruction sets. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kVectorsPerStrip = kStrip / kLanes;

#if defined(MODU_VECTOR_AVX512)
MODU_INLINE Int LoadCodes(const std::byte* p) { return _mm512_loadu_si512(p); }
MODU_INLINE void StoreInt(std::byte* p, Int x) { _mm512_storeu_si512(p, x); }
MODU_INLINE Int SetInt(int x) { return _mm512_set1_epi32(x); }
MODU_INLINE Float ToFloat(Int x) { return _mm512_cvtepi32_ps(x); }
MODU_INLINE Int LowNibbles(Int x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
MODU_INLINE Int HighNibbles(Int x) { return LowNibbles(_mm512_srli_epi16(x, 4)); }
MODU_INLINE Int AddCodes(Int a, Int b) { return _mm512_add_epi8(a, b); }
/// The sums of the four unsigned bytes of each column.
MODU_INLINE Int AddFour(Int codes) {
  return _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_set1_epi8(1));
}
MODU_INLINE Int AddInt(Int a, Int b) { return _mm512_add_epi32(a, b); }
MODU_INLINE Int XorInt(Int a, Int b) { return _mm512_xor_si512(a, b); }
template <int kBits>
MODU_INLINE Int ShiftUp(Int x) {
  return _mm512_slli_epi32(x, kBits);
}
template <int kBits>
MODU_INLINE Int ShiftDown(Int x) {
  return _mm512_srli_epi32(x, kBits);
}
MODU_INLINE Int OnesDot(Int sum, Int signed_codes) {
  return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), signed_codes);
}
/// 16-bit halves: the high ones of `high`, the low ones of `low`.
MODU_INLINE Int JoinHalves(Int low, Int high) {
  return _mm512_mask_blend_epi16(0xAAAAAAAAu, low, high);
}
/// a * b / 2^15, the nearest whole number.
MODU_INLINE Int ScaleHalves(Int a, Int b) { return _mm512_mulhrs_epi16(a, b); }
template <int kBits>
MODU_INLINE Int ShiftHalvesUp(Int x) {
  return _mm512_slli_epi16(x, kBits);
}
/// sum + low halves' product + high halves' product.
MODU_INLINE Int AddProducts(Int sum, Int a, Int b) { return _mm512_dpwssd_epi32(sum, a, b); }
#else
MODU_INLINE Int LoadCodes(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
MODU_INLINE void StoreInt(std::byte* p, Int x) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), x);
}
MODU_INLINE Int SetInt(int x) { return _mm256_set1_epi32(x); }
MODU_INLINE Float ToFloat(Int x) { return _mm256_cvtepi32_ps(x); }
MODU_INLINE Int LowNibbles(Int x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
MODU_INLINE Int HighNibbles(Int x) { return LowNibbles(_mm256_srli_epi16(x, 4)); }
MODU_INLINE Int AddCodes(Int a, Int b) { return _mm256_add_epi8(a, b); }
/// The sums of the four unsigned bytes of each column.
MODU_INLINE Int AddFour(Int codes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
MODU_INLINE Int AddInt(Int a, Int b) { return _mm256_add_epi32(a, b); }
MODU_INLINE Int XorInt(Int a, Int b) { return _mm256_xor_si256(a, b); }
template <int kBits>
MODU_INLINE Int ShiftUp(Int x) {
  return _mm256_slli_epi32(x, kBits);
}
template <int kBits>
MODU_INLINE Int ShiftDown(Int x) {
  return _mm256_srli_epi32(x, kBits);
}
MODU_INLINE Int OnesDot(Int sum, Int signed_codes) {
  const Int pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), signed_codes);
  return AddInt(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
/// 16-bit halves: the high ones of `high`, the low ones of `low`.
MODU_INLINE Int JoinHalves(Int low, Int high) { return _mm256_blend_epi16(low, high, 0xAA); }
/// a * b / 2^15, the nearest whole number.
MODU_INLINE Int ScaleHalves(Int a, Int b) { return _mm256_mulhrs_epi16(a, b); }
template <int kBits>
MODU_INLINE Int ShiftHalvesUp(Int x) {
  return _mm256_slli_epi16(x, kBits);
}
/// sum + low halves' product + high halves' product.
MODU_INLINE Int AddProducts(Int sum, Int a, Int b) { return AddInt(sum, _mm256_madd_epi16(a, b)); }
#endif

/// The 64-byte line z of the codes of register `vector`'s columns.
template <int kBytesPer16Columns>
MODU_INLINE const std::byte* CodesAt(const std::byte* group, int vector, int z) {
  const int column = vector * kLanes;
  return group + column / 16 * kBytesPer16Columns + column % 16 * 4 + 64 * z;
}

/// The int8 form of a strip format (packed_weight.h). Codes count from kMiddle; a group's products
/// are below 2^(15 + kShift) in size, with an activation of at most 127.
struct W4 {  // two codes a byte; a line holds 8 inputs of 16 columns
  static constexpr StripFormat kFormat = StripFormat::kW4F16;  // kW4F32 is the same in int8
  static constexpr bool kNibbles = true, kSigned = false, kMin = true;
  static constexpr int kParts = 1;  // stretches of a group's inputs with a d of their own
  static constexpr int kMiddle = 8, kShift = 0;
};
struct W8 {  // one code a byte, here and below; a line holds 4 inputs of 16 columns
  static constexpr StripFormat kFormat = StripFormat::kW8F16;
  static constexpr bool kNibbles = false, kSigned = false, kMin = false;
  static constexpr int kParts = 1, kMiddle = 128, kShift = 4;
};
struct W8Min {
  static constexpr StripFormat kFormat = StripFormat::kW8Min;
  static constexpr bool kNibbles = false, kSigned = false, kMin = true;
  static constexpr int kParts = 1, kMiddle = 16, kShift = 1;
};
struct W8Half {
  static constexpr StripFormat kFormat = StripFormat::kW8Half;
  static constexpr bool kNibbles = false, kSigned = true, kMin = false;
  static constexpr int kParts = 2, kMiddle = 0, kShift = 1;
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
  return AddInt(sum, SetInt(-kGroup / Format::kParts * Format::kMiddle));
}

/// Both groups' sums in halves, so far up that a half just holds them.
template <typename Format>
MODU_INLINE Int PairSums(const std::byte* pair, int part, int vector) {
  constexpr int kUp = 7 - Format::kShift;
  const Int first = CodeSums<Format>(CodesOf<Format>(pair, 0), part, vector);
  const Int second = CodeSums<Format>(CodesOf<Format>(pair, 1), part, vector);
  return JoinHalves(ShiftUp<kUp>(first), ShiftUp<kUp + 16>(second));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
