// exp and the activation functions of gated linears on one register of floats. Within 2 ulp of the
// exact value (exp) and 1e-6 relative (activations); identical lanes give identical results, on
// AVX2 and AVX-512 alike. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// e^x for x clamped to [-87.33, 88]; NaN stays NaN. Cody-Waite reduction by ln 2 in two parts and
/// the degree-5 minimax polynomial of Cephes' expf: relative error below 2e-7.
MODU_INLINE Float Exp(Float x) {
  x = Min(Set(88.0f), Max(Set(-87.33f), x));
  const Float n = Round(Mul(x, Set(1.44269504088896341f)));
  Float r = NegFma(n, Set(0.693359375f), x);
  r = NegFma(n, Set(-2.12194440e-4f), r);
  Float p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  p = Fma(p, Mul(r, r), Add(r, Set(1.0f)));
  return Mul(p, PowerOfTwo(n));
}

/// 2^x for x at most 0, clamped to -125; NaN stays NaN. Relative error below 3e-6 (degree-4 minimax
/// polynomial on [-1/2, 1/2] with 2^0 = 1): for what is rounded to 16 bits next.
MODU_INLINE Float PowerOfTwoBelowOne(Float x) {
  x = Max(Set(-125.0f), x);
  // Adding 1.5 * 2^23 + 127 rounds x to a whole n and leaves n + 127 in the lowest mantissa bits.
  const Float magic = Set(12583039.0f);
  const Float biased = Add(x, magic);
  const Float r = Sub(x, Sub(biased, magic));
  Float p = Set(0.009582852944731712f);
  p = Fma(p, r, Set(0.055906426161527634f));
  p = Fma(p, r, Set(0.24024099111557007f));
  p = Fma(p, r, Set(0.6931241750717163f));
  p = Fma(p, r, Set(1.0f));
  return Mul(p, ToExponent(biased));
}

/// x / (1 + e^-x)
MODU_INLINE Float Silu(Float x) { return Div(x, Add(Set(1.0f), Exp(Sub(Zero(), x)))); }

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as x times the logistic of twice the argument.
MODU_INLINE Float GeluTanh(Float x) {
  const Float cube = Mul(Mul(x, x), x);
  const Float inner = Fma(Set(0.044715f), cube, x);
  return Div(x, Add(Set(1.0f), Exp(Mul(Set(-1.5957691216057308f), inner))));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
