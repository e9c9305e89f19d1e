// One vector of the translation unit's instruction set, for kernels that are written once for AVX2
// and AVX-512. Included by op_dtype_isa files only. Everything lies in an ISA-named namespace,
// inside an unnamed one, so that no code built with -m flags can be picked by the linker for the
// rest of the program. Group holds 16 consecutive floats on both sets (two registers or one): sums
// over groups reduce in one fixed order, so a kernel written over groups gives the same bits on
// both. MODU_VECTOR_AVX512 may be set by hand to test the AVX-512 form over an emulation of the
// intrinsics (MODU_VECTOR_EMULATED: the includer has included it).
#pragma once
#include <cstddef>
#include <cstdint>

#if !defined(MODU_VECTOR_AVX512) && defined(__AVX512F__)
#define MODU_VECTOR_AVX512 1
#endif
#if !defined(MODU_VECTOR_EMULATED)
#include <immintrin.h>
#endif
#if defined(MODU_VECTOR_EMULATED)
#define MODU_ISA emulated
#elif defined(__AMX_TILE__)
#define MODU_ISA amx
#elif defined(__AVX512BF16__)
#define MODU_ISA avx512bf16
#elif defined(MODU_VECTOR_AVX512)
#define MODU_ISA avx512
#else
#define MODU_ISA avx2
#endif

#define MODU_INLINE inline __attribute__((always_inline))

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

constexpr int kLanes = 16;
using Float = __m512;
using Int = __m512i;

MODU_INLINE Float Zero() { return _mm512_setzero_ps(); }
MODU_INLINE Float Set(float x) { return _mm512_set1_ps(x); }
MODU_INLINE Float Load(const float* p) { return _mm512_loadu_ps(p); }
MODU_INLINE void Store(float* p, Float x) { _mm512_storeu_ps(p, x); }
MODU_INLINE Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
MODU_INLINE Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
MODU_INLINE Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
MODU_INLINE Float Div(Float a, Float b) { return _mm512_div_ps(a, b); }
/// a*b + c, rounded once.
MODU_INLINE Float Fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
/// c - a*b, rounded once.
MODU_INLINE Float NegFma(Float a, Float b, Float c) { return _mm512_fnmadd_ps(a, b, c); }
/// Where b is NaN the result is b, where only a is NaN it is b.
MODU_INLINE Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }
MODU_INLINE Float Min(Float a, Float b) { return _mm512_min_ps(a, b); }
/// The lowest 8 mantissa bits as an exponent.
MODU_INLINE Float ToExponent(Float x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
}
MODU_INLINE Float Round(Float x) { return _mm512_roundscale_ps(x, 8); }
/// Lane i keeps x where first <= i < last, else `other`.
MODU_INLINE Float Select(Float x, Float other, int first, int last) {
  const Int lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto from = _mm512_cmpgt_epi32_mask(lane, _mm512_set1_epi32(first - 1));
  const auto to = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(last), lane);
  return _mm512_mask_blend_ps(static_cast<__mmask16>(from & to), other, x);
}
MODU_INLINE Float AsFloat(Int x) { return _mm512_castsi512_ps(x); }
MODU_INLINE Int AsInt(Float x) { return _mm512_castps_si512(x); }
MODU_INLINE Int And(Int x, int mask) { return _mm512_and_si512(x, _mm512_set1_epi32(mask)); }
/// What `bits` less x's bits are the bits of.
MODU_INLINE Float MinusBits(int bits, Float x) {
  return AsFloat(_mm512_sub_epi32(_mm512_set1_epi32(bits), AsInt(x)));
}
/// Lane i takes lane i ^ kStride, a power of two below kLanes.
template <int kStride>
MODU_INLINE Float SwapLanes(Float x) {
  if constexpr (kStride == 1) return _mm512_permute_ps(x, 0xB1);
  if constexpr (kStride == 2) return _mm512_permute_ps(x, 0x4E);
  if constexpr (kStride == 4) return _mm512_shuffle_f32x4(x, x, 0xB1);
  if constexpr (kStride == 8) return _mm512_shuffle_f32x4(x, x, 0x4E);
}
/// kLanes pairs of bf16: the low halves, and the high halves, as floats.
MODU_INLINE Int LoadPairs(const std::byte* p) { return _mm512_loadu_si512(p); }
MODU_INLINE Float LowHalves(Int x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
MODU_INLINE Float HighHalves(Int x) {
  return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
}

#else

constexpr int kLanes = 8;
using Float = __m256;
using Int = __m256i;

MODU_INLINE Float Zero() { return _mm256_setzero_ps(); }
MODU_INLINE Float Set(float x) { return _mm256_set1_ps(x); }
MODU_INLINE Float Load(const float* p) { return _mm256_loadu_ps(p); }
MODU_INLINE void Store(float* p, Float x) { _mm256_storeu_ps(p, x); }
MODU_INLINE Float Add(Float a, Float b) { return _mm256_add_ps(a, b); }
MODU_INLINE Float Sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
MODU_INLINE Float Mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
MODU_INLINE Float Div(Float a, Float b) { return _mm256_div_ps(a, b); }
/// a*b + c, rounded once.
MODU_INLINE Float Fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
/// c - a*b, rounded once.
MODU_INLINE Float NegFma(Float a, Float b, Float c) { return _mm256_fnmadd_ps(a, b, c); }
/// Where b is NaN the result is b, where only a is NaN it is b.
MODU_INLINE Float Max(Float a, Float b) { return _mm256_max_ps(a, b); }
MODU_INLINE Float Min(Float a, Float b) { return _mm256_min_ps(a, b); }
/// The lowest 8 mantissa bits as an exponent.
MODU_INLINE Float ToExponent(Float x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23));
}
MODU_INLINE Float Round(Float x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/// Lane i keeps x where first <= i < last, else `other`.
MODU_INLINE Float Select(Float x, Float other, int first, int last) {
  const Int lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const Int keep = _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(first - 1)),
                                    _mm256_cmpgt_epi32(_mm256_set1_epi32(last), lane));
  return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(keep));
}
MODU_INLINE Float AsFloat(Int x) { return _mm256_castsi256_ps(x); }
MODU_INLINE Int AsInt(Float x) { return _mm256_castps_si256(x); }
MODU_INLINE Int And(Int x, int mask) { return _mm256_and_si256(x, _mm256_set1_epi32(mask)); }
MODU_INLINE Float MinusBits(int bits, Float x) {
  return AsFloat(_mm256_sub_epi32(_mm256_set1_epi32(bits), AsInt(x)));
}
/// Lane i takes lane i ^ kStride, a power of two below kLanes.
template <int kStride>
MODU_INLINE Float SwapLanes(Float x) {
  if constexpr (kStride == 1) return _mm256_permute_ps(x, 0xB1);
  if constexpr (kStride == 2) return _mm256_permute_ps(x, 0x4E);
  if constexpr (kStride == 4) return _mm256_permute2f128_ps(x, x, 1);
}
/// kLanes pairs of bf16: the low halves, and the high halves, as floats.
MODU_INLINE Int LoadPairs(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
MODU_INLINE Float LowHalves(Int x) { return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)); }
MODU_INLINE Float HighHalves(Int x) {
  return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xFFFF0000))));
}

#endif

/// sum += a * b, in place: GCC 12 otherwise turns half of a tile's FMAs into the form that
/// overwrites a factor, runs out of registers and spills accumulators.
MODU_INLINE void Accumulate(Float& sum, Float a, Float b) {
#if defined(MODU_VECTOR_AVX512)
  sum = Fma(a, b, sum);
#else
  asm("vfmadd231ps %1, %2, %0" : "+x"(sum) : "x"(a), "x"(b));
#endif
}

/// 2^n for whole n in [-126, 127], 0 for -127: adding 1.5 * 2^23 + 127 leaves n + 127 in the lowest
/// mantissa bits.
MODU_INLINE Float PowerOfTwo(Float n) { return ToExponent(Add(n, Set(12583039.0f))); }

/// m * 2^x in two steps, for x below 127: to the nearest whole number what is left of x, exactly
/// (some number from -1/2 to 1/2 where x is below -127), then m times 2 to that whole number (where
/// it is below -126 anything below 2^-125). NaN stays NaN.
#if defined(MODU_VECTOR_AVX512) && !defined(MODU_VECTOR_EMULATED)
MODU_INLINE Float LessNearestWhole(Float x) { return _mm512_reduce_ps(x, 8); }
MODU_INLINE Float TimesPowerOfTwo(Float m, Float whole) { return _mm512_scalef_ps(m, whole); }
#else
MODU_INLINE Float LessNearestWhole(Float x) {
  x = Max(Set(-127.0f), x);
  return Sub(x, Round(x));
}
MODU_INLINE Float TimesPowerOfTwo(Float m, Float whole) {
  return Mul(m, PowerOfTwo(Max(Set(-127.0f), whole)));
}
#endif

/// Registers that hold 16 floats.
constexpr int kParts = 16 / kLanes;

/// 16 consecutive floats.
struct Group {
  Float part[kParts];
};

MODU_INLINE Group SetGroup(float x) {
  Group g;
  for (int i = 0; i < kParts; ++i) g.part[i] = Set(x);
  return g;
}
MODU_INLINE Group LoadGroup(const float* p) {
  Group g;
  for (int i = 0; i < kParts; ++i) g.part[i] = Load(p + i * kLanes);
  return g;
}
MODU_INLINE void StoreGroup(float* p, const Group& g) {
  for (int i = 0; i < kParts; ++i) Store(p + i * kLanes, g.part[i]);
}

/// Sum of the 16 lanes: always 16 -> 8 -> 4 -> 2 -> 1 by halves.
MODU_INLINE float Sum(const Group& g) {
#if defined(MODU_VECTOR_AVX512)
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(g.part[0]),
                    _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(g.part[0]), 1)));
#else
  const __m256 eight = _mm256_add_ps(g.part[0], g.part[1]);
#endif
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/// Largest of the 16 lanes.
MODU_INLINE float Max(const Group& g) {
#if defined(MODU_VECTOR_AVX512)
  const __m256 eight =
      _mm256_max_ps(_mm512_castps512_ps256(g.part[0]),
                    _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(g.part[0]), 1)));
#else
  const __m256 eight = _mm256_max_ps(g.part[0], g.part[1]);
#endif
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
