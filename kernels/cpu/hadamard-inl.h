// The rotation of queries, K and V before K and V are coded in 8 bits (kernels/kv_codes.h): the
// fast Walsh-Hadamard transform in Sylvester's order, without its factor 1/sqrt(span), so that
// products of two rotated vectors are span times what they were. Sums and differences of pairs, in
// one order, so the same bits on every instruction set. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Lane i: x[i] + x[i ^ kStride] where i has no bit kStride, else x[i ^ kStride] - x[i].
template <int kStride>
MODU_INLINE Float Butterfly(Float x) {
  alignas(64) float signs[kLanes];
  for (int i = 0; i < kLanes; ++i) signs[i] = (i & kStride) == 0 ? 1.0f : -1.0f;
  return Fma(x, Load(signs), SwapLanes<kStride>(x));
}

/// x[0, n) in runs of span, a power of two that divides n.
MODU_INLINE void Hadamard(float* x, int n, int span) {
  if (span >= kLanes) {
    for (int i = 0; i < n; i += kLanes) {
      Float v = Butterfly<4>(Butterfly<2>(Butterfly<1>(Load(x + i))));
      if constexpr (kLanes > 8) v = Butterfly<8>(v);
      Store(x + i, v);
    }
    for (int stride = kLanes; stride < span; stride *= 2) {
      for (int i = 0; i < n; i += kLanes) {
        if ((i & stride) != 0) continue;
        const Float a = Load(x + i), b = Load(x + i + stride);
        Store(x + i, Add(a, b));
        Store(x + i + stride, Sub(a, b));
      }
    }
    return;
  }
  for (int stride = 1; stride < span; stride *= 2) {
    for (int i = 0; i < n; ++i) {
      if ((i & stride) != 0) continue;
      const float a = x[i], b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
