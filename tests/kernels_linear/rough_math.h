// The functions for what is rounded to bf16 next (vector_math-inl.h) of 16 numbers at once, on
// AVX2, over emulated AVX-512 and on a machine with AMX.
#pragma once

namespace modu::kernels::cpu {

struct RoughMath {
  using Function = void (*)(const float* x, float* y);  // [16] each, 64-byte aligned
  Function power_of_two, reciprocal, silu, gelu_tanh;
};
RoughMath RoughMathTwin();      // AVX2
RoughMath RoughMathEmulated();  // where SIMDe is installed
RoughMath RoughMathAmx();

}  // namespace modu::kernels::cpu
