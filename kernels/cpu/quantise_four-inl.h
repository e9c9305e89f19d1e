// Four groups of activations to int8 at a time, in AVX2's registers: what is worked out once a
// group is so for four groups in one register. The bits are QuantiseGroup's. Included by
// op_dtype_isa files only.
#pragma once
#include "kernels/cpu/quantise_groups-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Lane i: the four lanes of x[i], joined.
template <typename Join>
MODU_INLINE __m128 Across(const __m128 (&x)[4], const Join& join) {
  const __m128 left = join(_mm_unpacklo_ps(x[0], x[1]), _mm_unpackhi_ps(x[0], x[1]));
  const __m128 right = join(_mm_unpacklo_ps(x[2], x[3]), _mm_unpackhi_ps(x[2], x[3]));
  return join(_mm_movelh_ps(left, right), _mm_movehl_ps(right, left));
}

MODU_INLINE __m128 JoinHalvesOf(__m256 x, __m128 (*join)(__m128, __m128)) {
  return join(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

/// Four groups of 32 values each.
MODU_INLINE void QuantiseFour(const float* const (&values)[4], float least,
                              const GroupPlace (&places)[4]) {
  const auto min = [](__m128 a, __m128 b) { return _mm_min_ps(a, b); };
  const auto max = [](__m128 a, __m128 b) { return _mm_max_ps(a, b); };
  __m128 lows[4], highs[4];
  __m256 none = _mm256_setzero_ps();  // NaN where a sum of values is not finite
  for (int i = 0; i < 4; ++i) {
    const float* const v = values[i];
    const __m256 a = _mm256_loadu_ps(v), b = _mm256_loadu_ps(v + 8), c = _mm256_loadu_ps(v + 16),
                 d = _mm256_loadu_ps(v + 24);
    const __m256 sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    none = _mm256_add_ps(none, _mm256_sub_ps(sum, sum));
    lows[i] = JoinHalvesOf(_mm256_min_ps(_mm256_min_ps(a, b), _mm256_min_ps(c, d)), min);
    highs[i] = JoinHalvesOf(_mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d)), max);
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(none, none, _CMP_UNORD_Q)) != 0) {
    for (int i = 0; i < 4; ++i) QuantiseGroup(values[i], least, places[i]);
    return;
  }
  const __m128 low = Across(lows, min), high = Across(highs, max), half = _mm_set1_ps(0.5f);
  const __m128 middle = _mm_add_ps(_mm_mul_ps(half, low), _mm_mul_ps(half, high));
  const __m128 most = _mm_max_ps(high, _mm_sub_ps(_mm_setzero_ps(), low));
  const __m128 from_middle = _mm_max_ps(_mm_sub_ps(high, middle), _mm_sub_ps(middle, low));
  const __m128 gain = _mm_sub_ps(_mm_mul_ps(most, most), _mm_mul_ps(from_middle, from_middle));
  const __m128 lopsided = _mm_cmpge_ps(gain, _mm_set1_ps(least));
  const __m128 centre = _mm_and_ps(lopsided, _mm_add_ps(middle, _mm_setzero_ps()));
  const __m128 reach = _mm_blendv_ps(most, from_middle, lopsided);
  const __m128 some = _mm_cmpge_ps(reach, _mm_set1_ps(1e-36f)), steps = _mm_set1_ps(kInt8Steps);
  const __m128 scale = _mm_and_ps(some, _mm_div_ps(reach, steps));
  alignas(16) float centres[4], inverses[4], scales[4];
  alignas(16) int32_t begins[4];
  _mm_store_ps(centres, centre);
  _mm_store_ps(inverses, _mm_and_ps(some, _mm_div_ps(steps, reach)));
  __m128 sums[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 c = _mm256_set1_ps(centres[i]), inverse = _mm256_set1_ps(inverses[i]);
    __m256i q[4];
    for (int part = 0; part < 4; ++part) {
      const __m256 x = _mm256_loadu_ps(values[i] + 8 * part);
      q[part] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(x, c), inverse));
    }
    const __m256i eight = StoreSteps(q, places[i].values);
    sums[i] = _mm_castsi128_ps(
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1)));
  }
  const __m128i sum = _mm_castps_si128(Across(sums, [](__m128 a, __m128 b) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_castps_si128(b)));
  }));
  _mm_store_ps(scales, scale);
  _mm_store_si128(reinterpret_cast<__m128i*>(begins),
                  _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(sum, 3)));
  for (int i = 0; i < 4; ++i) places[i].Store(scales[i], centres[i], begins[i]);
}

/// Groups [g, end) of a row; `values`: those of g.
MODU_INLINE void QuantiseFoursAlong(const float* values, float least, std::byte* row, int64_t g,
                                    int64_t end) {
  const auto place = [&](int64_t at) { return PlaceOf(row, at); };
  for (; g + 4 <= end; g += 4, values += 4 * kGroup) {
    QuantiseFour({values, values + kGroup, values + 2 * kGroup, values + 3 * kGroup}, least,
                 {place(g), place(g + 1), place(g + 2), place(g + 3)});
  }
  for (; g < end; ++g, values += kGroup) QuantiseGroup(values, least, place(g));
}

/// Group g of several rows, row_bytes apart; values: `stride` floats apart. Without centres.
MODU_INLINE void QuantiseFoursDown(const float* values, int64_t stride, int rows, std::byte* row,
                                   int64_t row_bytes, int64_t g) {
  const auto place = [&](int r) { return PlaceOf(row + r * row_bytes, g); };
  int r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float* const v = values + r * stride;
    QuantiseFour({v, v + stride, v + 2 * stride, v + 3 * stride}, kNoCentres,
                 {place(r), place(r + 1), place(r + 2), place(r + 3)});
  }
  for (; r < rows; ++r) QuantiseGroup(values + r * stride, kNoCentres, place(r));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
