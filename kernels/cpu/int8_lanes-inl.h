// What int8 products need of a register of whole numbers: bytes, 16-bit halves and dwords, on AVX2
// and AVX-512 VNNI. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

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
MODU_INLINE Int OrBits(Int a, Int b) { return _mm512_or_si512(a, b); }
template <int kByte>
MODU_INLINE Int AndBytes(Int x) {
  return _mm512_and_si512(x, _mm512_set1_epi8(kByte));
}
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
template <int kBits>
MODU_INLINE Int ShiftHalvesDown(Int x) {
  return _mm512_srli_epi16(x, kBits);
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
MODU_INLINE Int OrBits(Int a, Int b) { return _mm256_or_si256(a, b); }
template <int kByte>
MODU_INLINE Int AndBytes(Int x) {
  return _mm256_and_si256(x, _mm256_set1_epi8(kByte));
}
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
template <int kBits>
MODU_INLINE Int ShiftHalvesDown(Int x) {
  return _mm256_srli_epi16(x, kBits);
}
/// sum + low halves' product + high halves' product.
MODU_INLINE Int AddProducts(Int sum, Int a, Int b) { return AddInt(sum, _mm256_madd_epi16(a, b)); }
#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
