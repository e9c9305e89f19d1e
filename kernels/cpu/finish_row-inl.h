// What is known once all pieces of an int8 row are (prepared.h): its unit, scales, totals and
// centres in it, and pairs' crosses. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512)
/// Of 16 groups, or the 8 that are left.
MODU_INLINE Float LoadGroups(const float* x, int64_t left) {
  return _mm512_maskz_loadu_ps(left < 16 ? 0xFF : 0xFFFF, x);
}
/// x to the nearest int16s, two in a dword; nothing in the upper half.
MODU_INLINE Int ToHalves(Float x) {
  return _mm512_castsi256_si512(_mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}
MODU_INLINE void StoreHalves(uint64_t* scales_and_totals, uint32_t* centres, Float scale,
                             Float total, Float centre) {
  const Int order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  _mm512_store_si512(scales_and_totals,
                     _mm512_permutex2var_epi32(ToHalves(scale), order, ToHalves(total)));
  _mm256_store_si256(reinterpret_cast<__m256i*>(centres), _mm512_castsi512_si256(ToHalves(centre)));
}
#else
MODU_INLINE Float LoadGroups(const float* x, int64_t) { return Load(x); }
MODU_INLINE __m128i ToHalves(Float x) {
  const __m256i whole = _mm256_cvtps_epi32(x);
  return _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
}
MODU_INLINE void StoreHalves(uint64_t* scales_and_totals, uint32_t* centres, Float scale,
                             Float total, Float centre) {
  const __m128i scales = ToHalves(scale), totals = ToHalves(total);
  auto* const to = reinterpret_cast<__m128i*>(scales_and_totals);
  _mm_store_si128(to, _mm_unpacklo_epi32(scales, totals));
  _mm_store_si128(to + 1, _mm_unpackhi_epi32(scales, totals));
  _mm_store_si128(reinterpret_cast<__m128i*>(centres), ToHalves(centre));
}
#endif

/// Int8Pair's crosses, from its values.
MODU_INLINE uint32_t CrossesOf(const Int8Pair& pair) {
#if defined(MODU_VECTOR_AVX512)
  const Int all = _mm512_loadu_si512(pair.values);
  const Int sums = _mm512_dpbusd_epi32(SetInt(0), XorInt(all, _mm512_set1_epi8(-128)),
                                       _mm512_srli_epi64(all, 32));  // in every other dword
  const __m256i both = _mm256_add_epi32(_mm512_castsi512_si256(sums),
                                        _mm256_slli_epi32(_mm512_extracti64x4_epi64(sums, 1), 16));
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return -static_cast<uint32_t>(
      _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E))));
#else
  uint32_t crosses = 0;
  for (int g = 1; g >= 0; --g) {
    __m256i sums = _mm256_setzero_si256();  // in the first two dwords of each half
    for (int i = 0; i < 2; ++i) {
      const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(
          reinterpret_cast<const __m128i*>(pair.values + g * kGroup + i * kGroup / 2)));
      sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_add_epi16(x, _mm256_set1_epi16(128)),
                                                      _mm256_shuffle_epi32(x, 0x4E)));
    }
    const __m128i two =
        _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const __m128i one = _mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1));
    crosses = (crosses << 16) - static_cast<uint32_t>(_mm_cvtsi128_si32(one));
  }
  return crosses;
#endif
}

/// From the scales, centres and means behind a row's pairs: its unit, and all of them in it.
MODU_INLINE void FinishRow(std::byte* row, int64_t groups) {
  auto* const pairs = reinterpret_cast<Int8Pair*>(row);
  std::byte* const end = row + Int8RowEndOffset(groups);
  const int64_t padded = PaddedGroups(groups);
  const float* const scales = reinterpret_cast<const float*>(row + Int8ScalesOffset(groups));
  const float* const centres = scales + padded;
  const float* const means = centres + padded;
  const Float part = Set(1.0f / kInt8Steps);
  Group most = SetGroup(0.0f), none = most;  // NaN where a scale is
  for (int64_t g = 0; g < padded; g += kLanes) {
    const Float scale = LoadGroups(scales + g, padded - g);
    const Float size = AsFloat(And(AsInt(LoadGroups(centres + g, padded - g)), 0x7fffffff));
    most.part[0] = Max(Fma(size, part, scale), most.part[0]);  // NaN does not count
    none.part[0] = Fma(scale, Zero(), none.part[0]);
  }
  float unit = Max(most);
  const float inverse = unit >= 1e-30f ? 1.0f / unit : 0.0f;  // times 2^15 it is finite
  if (Sum(none) != 0) unit = __builtin_nanf("");
  __builtin_memcpy(end, &unit, sizeof(unit));
  auto* const centred = reinterpret_cast<uint32_t*>(end + sizeof(unit));
  const Float to_scale = Set(inverse * 32768.0f), to_total = Set(inverse * 8.0f * kGroup);
  const Float to_centre = Set(inverse * 32.0f);
  for (int64_t g = 0; g < padded; g += kLanes) {
    alignas(64) uint64_t scales_and_totals[kLanes / 2];
    alignas(32) uint32_t centre_halves[kLanes / 2];
    const int64_t left = padded - g;
    StoreHalves(scales_and_totals, centre_halves, Mul(LoadGroups(scales + g, left), to_scale),
                Mul(LoadGroups(means + g, left), to_total),
                Mul(LoadGroups(centres + g, left), to_centre));
    uint32_t with_centre = 0;
    for (int64_t i = 0; i < kLanes / 2 && g / 2 + i < PairsOf(groups); ++i) {
      Int8Pair* const pair = pairs + g / 2 + i;
      __builtin_memcpy(reinterpret_cast<std::byte*>(pair) + offsetof(Int8Pair, scales),
                       scales_and_totals + i, sizeof(uint64_t));
      pair->centres = centre_halves[i];
      pair->crosses = CrossesOf(*pair);
      with_centre |= static_cast<uint32_t>(centre_halves[i] != 0) << i;
    }
    const int64_t first = g / 2 % kChunkPairs;
    uint32_t& mask = centred[g / 2 / kChunkPairs];
    mask = (first == 0 ? 0 : mask) | with_centre << first;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
