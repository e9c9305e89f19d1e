// Powers of two of scores as bf16, by whole numbers. A score's distance from the row's largest in
// 512ths of a doubling is the power's exponent and, but for what 2^x lacks of the line 1 + x,
// its mantissa, with two bits more than bf16 keeps; what is lacked is one of 64 numbers of a table.
// That takes 10 instructions for 32 scores where a polynomial took 20. The result is within 5.5e-3
// of the power, 1.8e-3 in the mean (of squares), where the exact power rounded to bf16 is
// within 3.9e-3 and 1.7e-3 (largest scores up to some 1e4; beyond, their own last bit is more).
// With AVX512-VBMI and in plain code; the same bits. Included by op_dtype_isa files only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kPowerSteps = 512;  // of a doubling
/// The largest score's: exponent 127, and what rounds (with the table) when the two lowest bits are
/// dropped.
constexpr float kPowerOfNone = 127.0f * kPowerSteps + 2;

/// For each 64th of a doubling what is nearest in the mean of squares of the relative error,
/// rounding included; about 512 (1 + x - 2^x).
alignas(64) constexpr uint8_t kBelowLine[64] = {
    1,  4,  6,  8,  10, 12, 15, 16, 19, 20, 22, 24, 26, 28, 29, 31, 32, 33, 35, 36, 37, 38,
    39, 40, 41, 41, 42, 43, 43, 44, 44, 44, 44, 45, 45, 45, 44, 44, 44, 43, 43, 42, 42, 41,
    40, 39, 38, 37, 35, 34, 33, 31, 29, 27, 25, 23, 21, 19, 17, 14, 11, 9,  6,  3};

/// What StorePowers is told of the largest score.
MODU_INLINE float PowersOrigin(float top) {
  return __builtin_fmaf(top, -float{kPowerSteps}, kPowerOfNone);
}

/// Bit t is set for tokens [first, last) of 32.
MODU_INLINE uint32_t TokenBits(int first, int last) {
  const auto below = [](int n) { return n <= 0 ? 0u : n >= 32 ? ~0u : (1u << n) - 1; };
  return below(last) & ~below(first);
}

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)

/// 2^(score - top) of 32 scores; origin: PowersOrigin(top). 0 where `seen` has no bit.
MODU_INLINE void StorePowers(const float* scores, float origin, uint32_t seen, std::byte* out) {
  const Float steps = Set(float{kPowerSteps}), from = Set(origin);
  const Int first = _mm512_cvtps_epi32(Fma(Load(scores), steps, from));
  const Int second = _mm512_cvtps_epi32(Fma(Load(scores + 16), steps, from));
  // Saturated to [0, 65535]: what is far below becomes 0. Packing goes by 128 bits.
  const Int order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const Int line = _mm512_permutexvar_epi64(order, _mm512_packus_epi32(first, second));
  const Int below = _mm512_maskz_permutexvar_epi8(0x5555555555555555u, _mm512_srli_epi16(line, 3),
                                                  _mm512_load_si512(kBelowLine));
  const Int powers = _mm512_srli_epi16(_mm512_subs_epu16(line, below), 2);
  _mm512_storeu_si512(out, _mm512_maskz_mov_epi16(seen, powers));
}

#else

MODU_INLINE void StorePowers(const float* scores, float origin, uint32_t seen, std::byte* out) {
  uint16_t powers[32];
  for (int i = 0; i < 32; ++i) {
    const float x = __builtin_fmaf(scores[i], float{kPowerSteps}, origin);
    // NaN is 0, as it is there.
    const float clamped = !(x > 0) ? 0.0f : x < 65535.0f ? __builtin_nearbyintf(x) : 65535.0f;
    const auto line = static_cast<int>(clamped);
    const int below = kBelowLine[line >> 3 & 63];
    powers[i] = static_cast<uint16_t>((line > below ? line - below : 0) >> 2);
    if ((seen >> i & 1) == 0) powers[i] = 0;
  }
  __builtin_memcpy(out, powers, sizeof(powers));
}

#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
