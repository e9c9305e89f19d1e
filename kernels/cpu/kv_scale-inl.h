// The scale of a row of codes: its largest magnitude over the largest code (kernels/kv_codes.h).
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"
#include "kernels/kv_codes.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// value = scale * code; code = value * inverse, rounded. Of a row that is not finite NaN and 0, of
/// one of zeros 0 and 0.
struct CodeScale {
  float scale, inverse;
  bool finite;
};

MODU_INLINE CodeScale ScaleOf(const float* x, int n, float largest_code) {
  uint32_t largest_bits = 0;  // of the magnitudes: their order, infinity and NaN above all
  for (int i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7FFFFFFFu;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  if (largest_bits >= 0x7F800000u) return {__builtin_nanf(""), 0.0f, false};
  float largest;
  __builtin_memcpy(&largest, &largest_bits, sizeof(largest));
  if (largest < kLeastKvMagnitude) return {0.0f, 0.0f, true};
  return {largest / largest_code, largest_code / largest, true};
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
