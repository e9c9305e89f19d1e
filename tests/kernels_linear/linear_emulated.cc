// The AVX-512 form of the matrix products, compiled against SIMDe's portable versions of the
// intrinsics: its logic runs on machines without AVX-512.
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

// SIMDe 0.7 has none of vcvtph2ps, vcvtdq2ps and vpmovsxwd to 512 bits: two halves.
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
static inline simde__m512i EmulatedCvtepi16Epi32(simde__m256i x) {
  const __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(x));
  const __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1));
  return simde_mm512_inserti64x4(simde_mm512_castsi256_si512(low), high, 1);
}
#undef _mm512_cvtepi16_epi32
#define _mm512_cvtepi16_epi32 EmulatedCvtepi16Epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps EmulatedCvtepi32Ps
#define _mm512_cvtph_ps EmulatedCvtphPs

#include "kernels/cpu/coarse_int8-inl.h"
#include "kernels/cpu/int8_join-inl.h"
#include "kernels/cpu/linear_bf16_dots-inl.h"
#include "kernels/cpu/linear_bf16_tiles-inl.h"
#include "kernels/cpu/linear_f32-inl.h"
#include "kernels/cpu/linear_int8-inl.h"
#include "kernels/cpu/linear_int8_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"
#include "tests/kernels_linear/emulated_dot_pairs-inl.h"
#include "tests/kernels_linear/linear_emulated.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsEmulated() { return emulated::kInt8Kernels; }
const Int8Kernels& Int8TileKernelsEmulated() { return emulated::kTileProductKernels<ScalarTiles>; }
const Bf16TileKernels& Bf16TileKernelsEmulated() { return emulated::kBf16TileKernels<ScalarTiles>; }
const FloatKernels& FloatKernelsEmulated() { return emulated::kFloatKernels; }
FloatStripFn Bf16DotsEmulated() { return emulated::Bf16DotsStrip; }
CoarseStripFn CoarseStripEmulated() { return emulated::CoarseStrip; }
}  // namespace modu::kernels::cpu
