// What is known once all pieces of an int8 row are (prepared.h): its unit, scales, totals and
// centres in it, and pairs' crosses. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512)
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

/// Of kLanes groups: how they were quantised, and the mean of the x that they stand for.
struct QuantisedGroups {
  Float scale, centre, mean;
};

/// Those of up to kLanes / 2 pairs, of which there are `left`; zeros behind them.
MODU_INLINE QuantisedGroups LoadGroups(const UnfinishedPair* pairs, int64_t left) {
  const auto floats = [&](int i) {  // two scales, two centres
    return i < left ? _mm_loadu_ps(pairs[i].scale) : _mm_setzero_ps();
  };
  const auto begins = [&](int i) {
    int both = 0x8000;  // of sums of 0
    if (i < left) __builtin_memcpy(&both, pairs[i].begin, sizeof(both));
    return both;
  };
  QuantisedGroups x;
#if defined(MODU_VECTOR_AVX512)
  const auto four = [&](int i) {
    const Float two = _mm512_insertf32x4(_mm512_castps128_ps512(floats(i)), floats(i + 1), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(two, floats(i + 2), 2), floats(i + 3), 3);
  };
  const Float first = four(0), last = four(4);
  const Int scales = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
  x.scale = _mm512_permutex2var_ps(first, scales, last);
  x.centre = _mm512_permutex2var_ps(first, AddInt(scales, SetInt(2)), last);
  const Int minus_sums = _mm512_cvtepi16_epi32(
      _mm256_xor_si256(_mm256_setr_epi32(begins(0), begins(1), begins(2), begins(3), begins(4),
                                         begins(5), begins(6), begins(7)),
                       _mm256_set1_epi32(0x8000)));
#else
  const __m128 a = floats(0), b = floats(1), c = floats(2), d = floats(3);
  x.scale = _mm256_set_m128(_mm_movelh_ps(c, d), _mm_movelh_ps(a, b));
  x.centre = _mm256_set_m128(_mm_movehl_ps(d, c), _mm_movehl_ps(b, a));
  const Int minus_sums = _mm256_cvtepi16_epi32(_mm_xor_si128(
      _mm_setr_epi32(begins(0), begins(1), begins(2), begins(3)), _mm_set1_epi32(0x8000)));
#endif
  x.mean = Fma(x.scale, Mul(ToFloat(minus_sums), Set(-1.0f / (8 * kGroup))), x.centre);
  return x;
}

/// From an unfinished row: its unit, and its scales, totals and centres in it.
MODU_INLINE void FinishRow(std::byte* row, int64_t groups) {
  constexpr int kPairs = kLanes / 2;  // at a time
  auto* const pairs = reinterpret_cast<Int8Pair*>(row);
  const auto* const unfinished = reinterpret_cast<const UnfinishedPair*>(row);
  std::byte* const end = row + Int8RowEndOffset(groups);
  const int64_t num_pairs = PairsOf(groups);
  const Float part = Set(1.0f / kInt8Steps);
  Group most = SetGroup(0.0f), none = most;  // NaN where a scale is
  for (int64_t p = 0; p < num_pairs; p += kPairs) {
    const QuantisedGroups x = LoadGroups(unfinished + p, num_pairs - p);
    const Float size = AsFloat(And(AsInt(x.centre), 0x7fffffff));
    most.part[0] = Max(Fma(size, part, x.scale), most.part[0]);  // NaN does not count
    none.part[0] = Fma(x.scale, Zero(), none.part[0]);
  }
  float unit = Max(most);
  const float inverse = unit >= 1e-30f ? 1.0f / unit : 0.0f;  // times 2^15 it is finite
  if (Sum(none) != 0) unit = __builtin_nanf("");
  __builtin_memcpy(end, &unit, sizeof(unit));
  auto* const centred = reinterpret_cast<uint32_t*>(end + sizeof(unit));
  const Float to_scale = Set(inverse * 32768.0f), to_total = Set(inverse * 8.0f * kGroup);
  const Float to_centre = Set(inverse * 32.0f);
  for (int64_t p = 0; p < num_pairs; p += kPairs) {
    alignas(64) uint64_t scales_and_totals[kPairs];
    alignas(32) uint32_t centre_halves[kPairs];
    const QuantisedGroups x = LoadGroups(unfinished + p, num_pairs - p);
    StoreHalves(scales_and_totals, centre_halves, Mul(x.scale, to_scale), Mul(x.mean, to_total),
                Mul(x.centre, to_centre));
    uint32_t with_centre = 0;
    for (int64_t i = 0; i < kPairs && p + i < num_pairs; ++i) {
      Int8Pair* const pair = pairs + p + i;
      __builtin_memcpy(reinterpret_cast<std::byte*>(pair) + offsetof(Int8Pair, scales),
                       scales_and_totals + i, sizeof(uint64_t));
      pair->centres = centre_halves[i];
      pair->crosses = CrossesOf(*pair);
      with_centre |= static_cast<uint32_t>(centre_halves[i] != 0) << i;
    }
    const int64_t first = p % kChunkPairs;
    uint32_t& mask = centred[p / kChunkPairs];
    mask = (first == 0 ? 0 : mask) | with_centre << first;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
