// The functions for what is rounded to bf16 next (vector_math-inl.h) of 16 numbers at once, and
// powers of scores (attention_powers-inl.h) of 32, on AVX2, over emulated AVX-512 and on a machine
// with AMX.
#pragma once
#include <cstdint>

namespace modu::kernels::cpu {

struct RoughMath {
  using Function = void (*)(const float* x, float* y);  // [16] each, 64-byte aligned
  Function power_of_two, reciprocal, silu, gelu_tanh;
  /// bf16 of 2^(score - top); 0 where `seen` has no bit.
  void (*powers)(const float (&scores)[32], float top, uint32_t seen, uint16_t (&out)[32]);
};
RoughMath RoughMathTwin();      // AVX2
RoughMath RoughMathEmulated();  // where SIMDe is installed
RoughMath RoughMathAmx();

}  // namespace modu::kernels::cpu
