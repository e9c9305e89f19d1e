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

template <int kRegisters>
MODU_INLINE void HadamardInRegisters(Float (&v)[kRegisters]) {
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters; ++i) {
    v[i] = Butterfly<4>(Butterfly<2>(Butterfly<1>(v[i])));
    if constexpr (kLanes > 8) v[i] = Butterfly<8>(v[i]);
  }
#pragma GCC unroll 3
  for (int stride = 1; stride < kRegisters; stride *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kRegisters; ++i) {
      if ((i & stride) != 0) continue;
      const Float a = v[i], b = v[i + stride];
      v[i] = Add(a, b);
      v[i + stride] = Sub(a, b);
    }
  }
}

template <int kRegisters>
MODU_INLINE void LoadAll(const float* x, Float (&v)[kRegisters]) {
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters; ++i) v[i] = Load(x + i * kLanes);
}
template <int kRegisters>
MODU_INLINE void StoreAll(const Float (&v)[kRegisters], float* x) {
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters; ++i) Store(x + i * kLanes, v[i]);
}

template <int kRegisters>
MODU_INLINE void HadamardAt(float* x) {
  Float v[kRegisters];
  LoadAll(x, v);
  HadamardInRegisters(v);
  StoreAll(v, x);
}

/// x[0, n) in runs of span, a power of two that divides n.
MODU_INLINE void Hadamard(float* x, int n, int span) {
  // Most heads: runs that registers hold.
  if (span == 64) {
    for (int i = 0; i < n; i += span) HadamardAt<64 / kLanes>(x + i);
    return;
  }
#if defined(MODU_VECTOR_AVX512)
  if (span == 128) {
    for (int i = 0; i < n; i += span) HadamardAt<128 / kLanes>(x + i);
    return;
  }
#endif
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
