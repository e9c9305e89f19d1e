// f32 activations to bf16, nearest even, by AVX2's registers on all sets. Included by op_dtype_isa
// files only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// 8 activations to bf16 patterns in the upper halves; NaN stays NaN.
MODU_INLINE __m256i RoundActivations(const float* values) {
  const __m256 x = _mm256_loadu_ps(values);
  const __m256 quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  return _mm256_castps_si256(
      _mm256_blendv_ps(RoundToBf16(x), quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
MODU_INLINE uint32_t RoundActivation(const float* value) {
  uint32_t bits;
  __builtin_memcpy(&bits, value, sizeof(bits));
  return (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x7fffffffu
                                            : (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
