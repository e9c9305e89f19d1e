// SIMDe's portable versions of the AVX-512 intrinsics under their own names, and those that it
// lacks, for files that compile the kernels' AVX-512 form to run anywhere. Include it first.
#pragma once
#define MODU_VECTOR_EMULATED 1
#define MODU_VECTOR_AVX512 1
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#pragma GCC diagnostic pop

// SIMDe 0.7 has none of vcvtph2ps, vcvtdq2ps, vcvtps2dq, vpmovsxwd and vpmovzxbd to 512 bits: two
// halves. Nor has it vpshldd, vpermilps, vshuff32x4, masked loads of floats and masked stores.
static inline simde__m512 EmulatedCvtphPs(simde__m256i x) {
  const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(x));
  const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1));
  return simde_mm512_insertf32x8(simde_mm512_castps256_ps512(low), high, 1);
}
static inline simde__m512 EmulatedCvtepi32Ps(simde__m512i x) {
  const __m256 low = _mm256_cvtepi32_ps(simde_mm512_castsi512_si256(x));
  const __m256 high = _mm256_cvtepi32_ps(simde_mm512_extracti64x4_epi64(x, 1));
  return simde_mm512_insertf32x8(simde_mm512_castps256_ps512(low), high, 1);
}
static inline simde__m512i EmulatedCvtpsEpi32(simde__m512 x) {
  const __m256i low = _mm256_cvtps_epi32(simde_mm512_castps512_ps256(x));
  const __m256i high = _mm256_cvtps_epi32(
      _mm256_castsi256_ps(simde_mm512_extracti64x4_epi64(simde_mm512_castps_si512(x), 1)));
  return simde_mm512_inserti64x4(simde_mm512_castsi256_si512(low), high, 1);
}
static inline simde__m512i EmulatedCvtepi16Epi32(simde__m256i x) {
  const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(x));
  const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1));
  return simde_mm512_inserti64x4(simde_mm512_castsi256_si512(low), high, 1);
}
static inline simde__m512i EmulatedCvtepu8Epi32(simde__m128i x) {
  const __m256i low = _mm256_cvtepu8_epi32(x);
  const __m256i high = _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8));
  return simde_mm512_inserti64x4(simde_mm512_castsi256_si512(low), high, 1);
}
static inline simde__m512 EmulatedMaskzLoad(simde__mmask16 mask, const float* from) {
  alignas(64) float to[16] = {};
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) to[i] = from[i];
  }
  return simde_mm512_load_ps(to);
}
static inline void EmulatedMaskStore(float* to, simde__mmask16 mask, simde__m512 x) {
  alignas(64) float from[16];
  simde_mm512_store_ps(from, x);
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) to[i] = from[i];
  }
}
static inline void EmulatedMaskStoreBytes(void* to, simde__mmask64 mask, simde__m512i x) {
  alignas(64) char from[64];
  simde_mm512_store_si512(from, x);
  for (int i = 0; i < 64; ++i) {
    if ((mask >> i & 1) != 0) static_cast<char*>(to)[i] = from[i];
  }
}
static inline simde__m512i EmulatedShldi(simde__m512i high, simde__m512i low, int bits) {
  return simde_mm512_or_si512(simde_mm512_slli_epi32(high, static_cast<unsigned>(bits)),
                              simde_mm512_srli_epi32(low, static_cast<unsigned>(32 - bits)));
}
#undef _mm512_shldi_epi32
#define _mm512_shldi_epi32 EmulatedShldi
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 EmulatedCvtpsEpi32
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps EmulatedMaskzLoad
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps EmulatedMaskStore
#undef _mm512_mask_storeu_epi8
#define _mm512_mask_storeu_epi8 EmulatedMaskStoreBytes
#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32 EmulatedCvtepu8Epi32
#undef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32 EmulatedCvtepi16Epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps EmulatedCvtepi32Ps
#define _mm512_cvtph_ps EmulatedCvtphPs

template <int kOrder>
static inline simde__m512 EmulatedPermute(simde__m512 x) {
  alignas(64) float from[16], to[16];
  simde_mm512_store_ps(from, x);
  for (int i = 0; i < 16; ++i) to[i] = from[i / 4 * 4 + (kOrder >> 2 * (i % 4) & 3)];
  return simde_mm512_load_ps(to);
}
template <int kOrder>
static inline simde__m512 EmulatedShuffle(simde__m512 a, simde__m512 b) {
  alignas(64) float from[2][16], to[16];
  simde_mm512_store_ps(from[0], a);
  simde_mm512_store_ps(from[1], b);
  for (int i = 0; i < 16; ++i) to[i] = from[i / 8][(kOrder >> 2 * (i / 4) & 3) * 4 + i % 4];
  return simde_mm512_load_ps(to);
}
#undef _mm512_permute_ps
#define _mm512_permute_ps(x, order) EmulatedPermute<order>(x)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, order) EmulatedShuffle<order>(a, b)
