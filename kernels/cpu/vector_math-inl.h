// exp and the activation functions of gated linears on one register of floats. Within 2 ulp of the
// exact value (exp) and 1e-6 relative (activations), but for the rough ones; identical lanes give
// identical results, on AVX2 and AVX-512 alike. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kGeluFactor = 1.5957691216057308f;  // 2 sqrt(2/pi)

/// e^x for x clamped to [-87.33, 88]; NaN stays NaN. Cody-Waite reduction by ln 2 in two parts and
/// the degree-5 minimax polynomial of Cephes' expf: relative error below 2e-7.
MODU_INLINE Float Exp(Float x) {
  x = Min(Set(88.0f), Max(Set(-87.33f), x));
  const Float n = Round(Mul(x, Set(kLog2E)));
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

/// 2^x for x from -1/2 to 1/2: relative error below 3e-6 (degree-4 minimax polynomial with 2^0 =
/// 1).
MODU_INLINE Float PowerOfTwoNearOne(Float x) {
  Float p = Set(0.009582852944731712f);
  p = Fma(p, x, Set(0.055906426161527634f));
  p = Fma(p, x, Set(0.24024099111557007f));
  p = Fma(p, x, Set(0.6931241750717163f));
  return Fma(p, x, Set(1.0f));
}

/// 2^x for x at most 0, clamped to -125, for what is rounded to 16 bits next; NaN stays NaN.
/// RoughPowerOfTwo is the same, by instructions that were timed on a machine with AMX alone.
MODU_INLINE Float PowerOfTwoBelowOne(Float x) {
  x = Max(Set(-125.0f), x);
  // Adding 1.5 * 2^23 + 127 rounds x to a whole n and leaves n + 127 in the lowest mantissa bits.
  const Float magic = Set(12583039.0f);
  const Float biased = Add(x, magic);
  return Mul(PowerOfTwoNearOne(Sub(x, Sub(biased, magic))), ToExponent(biased));
}

MODU_INLINE Float WithCube(Float x) { return Fma(Set(0.044715f), Mul(Mul(x, x), x), x); }

/// x / (1 + e^-x)
MODU_INLINE Float Silu(Float x) { return Div(x, Add(Set(1.0f), Exp(Sub(Zero(), x)))); }

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as x times the logistic of twice the argument.
MODU_INLINE Float GeluTanh(Float x) {
  return Div(x, Add(Set(1.0f), Exp(Mul(Set(-kGeluFactor), WithCube(x)))));
}

// For what is rounded to bf16 next.

/// 2^x for x below 127; what is below 2^-125 may be anything below it, the same on every set where
/// denormals are zeros, as workers have them; NaN stays NaN.
MODU_INLINE Float RoughPowerOfTwo(Float x) {
  const Float r = LessNearestWhole(x);
  return TimesPowerOfTwo(PowerOfTwoNearOne(r), Sub(x, r));
}

/// 1 / x for x from 1 to 2^125, within 1.1e-6 of it: two of Newton's steps from what the bits say,
/// with constants that spread the error (found by search). A division takes as long as 16 others.
MODU_INLINE Float RoughReciprocal(Float x) {
  Float y = MinusBits(0x7EF33288, x);
  y = Mul(y, NegFma(x, y, Set(2.00128269f)));
  return Mul(y, NegFma(x, y, Set(2.00000072f)));
}

/// x / (1 + 2^(factor * y)): Silu and GeluTanh within 2e-5 of them, where they are not below
/// 2^-125 of x.
MODU_INLINE Float RoughLogistic(Float x, Float y, float factor) {
  const Float power = RoughPowerOfTwo(Min(Set(125.0f), Mul(y, Set(factor))));
  return Mul(x, RoughReciprocal(Add(Set(1.0f), power)));
}
MODU_INLINE Float RoughSilu(Float x) { return RoughLogistic(x, x, -kLog2E); }
MODU_INLINE Float RoughGeluTanh(Float x) {
  return RoughLogistic(x, WithCube(x), -kGeluFactor * kLog2E);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
