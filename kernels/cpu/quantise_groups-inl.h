// Groups of 32 activations to int8 (prepared.h): one by one by the definition, and four at a time,
// where what is worked out once a group is so for four groups in one register. The bits are the
// same either way, and on all sets: AVX2's registers. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/round_activations-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// The largest lane, or with kLargest false the smallest.
template <bool kLargest>
MODU_INLINE float Extreme(__m256 x) {
  const auto pick = [](__m128 a, __m128 b) {
    return kLargest ? _mm_max_ps(a, b) : _mm_min_ps(a, b);
  };
  __m128 four = pick(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = pick(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(pick(four, _mm_shuffle_ps(four, four, 1)));
}

/// 32 activations to int8 and their centre, in bf16 if asked. A range below 1e-36 (127 / it would
/// overflow) becomes its centre alone; a group with a NaN or an infinity gets a NaN scale.
template <bool kBf16Centre>
void QuantiseGroup(const float* values, Int8Group* group) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 x[4];
  __m256i largest = _mm256_setzero_si256();  // of bit patterns: NaN is above infinity
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_loadu_ps(values + 8 * i);
    largest = _mm256_max_epi32(largest, _mm256_castps_si256(_mm256_and_ps(x[i], magnitude)));
  }
  __m128i four =
      _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  float middle = 0, d = 0, inverse = 0;
  if (_mm_cvtsi128_si32(four) >= 0x7f800000) {
    d = __builtin_nanf("");
    for (__m256& part : x) part = _mm256_setzero_ps();
  } else {
    const float low =
        Extreme<false>(_mm256_min_ps(_mm256_min_ps(x[0], x[1]), _mm256_min_ps(x[2], x[3])));
    const float high =
        Extreme<true>(_mm256_max_ps(_mm256_max_ps(x[0], x[1]), _mm256_max_ps(x[2], x[3])));
    middle = 0.5f * low + 0.5f * high + 0.0f;  // not -0: which zero is least does not count
    if constexpr (kBf16Centre) middle = RoundedToBf16(middle);
    // From the rounded middle, so that no quotient below passes 127.
    const float above = high - middle, below = middle - low;
    const float reach = above > below ? above : below;
    if (reach >= 1e-36f) {
      d = reach / 127.0f;
      inverse = 127.0f / reach;
    }
  }
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_sub_ps(x[i], _mm256_set1_ps(middle)), _mm256_set1_ps(inverse)));
  }
  __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(group->values), bytes);
  const __m256i eight =
      _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
  __m128i total = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4E));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xB1));
  group->scale = d;
  group->sum = _mm_cvtsi128_si32(total);
  group->total = __builtin_fmaf(d, static_cast<float>(group->sum), kGroup * middle);
  group->centre = middle;
}

MODU_INLINE void QuantiseOne(const float* values, Int8Group* group) {
  QuantiseGroup<false>(values, group);
}
MODU_INLINE void QuantiseOne(const float* values, Int8PairsGroup* group) {
  Int8Group whole;
  QuantiseGroup<true>(values, &whole);
  __builtin_memcpy(group->values, whole.values, sizeof(whole.values));
  group->scale = whole.scale;
  group->pair = RoundActivation(&whole.total) >> 16 | RoundActivation(&whole.centre);
  group->minus_sum = -8 * whole.sum;
  group->centre = whole.centre;
}

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

/// The last 16 bytes of an Int8Group or Int8PairsGroup: scale, total or pair, sum or -8 sum,
/// centre.
constexpr int kTail = kGroup;
static_assert(offsetof(Int8Group, scale) == kTail && offsetof(Int8PairsGroup, scale) == kTail);
static_assert(offsetof(Int8Group, centre) == offsetof(Int8PairsGroup, centre));

/// Four groups of 32 values each.
template <typename Int8>
MODU_INLINE void QuantiseFour(const float* const (&values)[4], Int8* const (&groups)[4]) {
  constexpr bool kPairs = requires(Int8 group) { group.pair; };
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
    for (int i = 0; i < 4; ++i) QuantiseOne(values[i], groups[i]);
    return;
  }
  const __m128 low = Across(lows, min), high = Across(highs, max), half = _mm_set1_ps(0.5f);
  __m128 middle = _mm_add_ps(_mm_mul_ps(half, low), _mm_mul_ps(half, high));
  middle = _mm_add_ps(middle, _mm_setzero_ps());
  if constexpr (kPairs) middle = _mm_castsi128_ps(RoundFour(middle));
  const __m128 reach = _mm_max_ps(_mm_sub_ps(high, middle), _mm_sub_ps(middle, low));
  const __m128 some = _mm_cmpge_ps(reach, _mm_set1_ps(1e-36f)), most = _mm_set1_ps(127.0f);
  const __m128 scale = _mm_and_ps(some, _mm_div_ps(reach, most));
  alignas(16) float middles[4], inverses[4];
  _mm_store_ps(middles, middle);
  _mm_store_ps(inverses, _mm_and_ps(some, _mm_div_ps(most, reach)));
  __m128 sums[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 centre = _mm256_set1_ps(middles[i]), inverse = _mm256_set1_ps(inverses[i]);
    __m256i q[4];
    for (int part = 0; part < 4; ++part) {
      const __m256 x = _mm256_loadu_ps(values[i] + 8 * part);
      q[part] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(x, centre), inverse));
    }
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(groups[i]->values),
                        _mm256_permutevar8x32_epi32(bytes, order));
    const __m256i eight =
        _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
    sums[i] = _mm_castsi128_ps(
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1)));
  }
  const __m128i sum = _mm_castps_si128(Across(sums, [](__m128 a, __m128 b) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_castps_si128(b)));
  }));
  const __m128 total = _mm_fmadd_ps(scale, _mm_cvtepi32_ps(sum),
                                    _mm_mul_ps(_mm_set1_ps(static_cast<float>(kGroup)), middle));
  __m128 tail[4] = {scale, total, _mm_castsi128_ps(sum), middle};
  if constexpr (kPairs) {
    tail[1] = _mm_or_ps(_mm_castsi128_ps(_mm_srli_epi32(RoundFour(total), 16)), middle);
    tail[2] = _mm_castsi128_ps(_mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(sum, 3)));
  }
  _MM_TRANSPOSE4_PS(tail[0], tail[1], tail[2], tail[3]);
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(reinterpret_cast<float*>(reinterpret_cast<std::byte*>(groups[i]) + kTail),
                  tail[i]);
  }
}

/// Columns [first, first + count) of a row of groups.
template <typename Int8>
MODU_INLINE void QuantiseRow(const float* values, int64_t count, std::byte* row, int64_t first) {
  Int8* const groups = reinterpret_cast<Int8*>(row) + first / kGroup;
  const int64_t all = count / kGroup;
  int64_t g = 0;
  for (; g + 4 <= all; g += 4) {
    const float* const v = values + g * kGroup;
    Int8* const to = groups + g;
    QuantiseFour<Int8>({v, v + kGroup, v + 2 * kGroup, v + 3 * kGroup},
                       {to, to + 1, to + 2, to + 3});
  }
  for (; g < all; ++g) QuantiseOne(values + g * kGroup, groups + g);
}

/// The group at column `first` of several rows.
template <typename Int8>
MODU_INLINE void QuantiseColumn(const float* values, int64_t stride, int rows, std::byte* row,
                                int64_t row_bytes, int64_t first) {
  const auto group = [&](int r) {
    return reinterpret_cast<Int8*>(row + r * row_bytes) + first / kGroup;
  };
  int r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float* const v = values + r * stride;
    QuantiseFour<Int8>({v, v + stride, v + 2 * stride, v + 3 * stride},
                       {group(r), group(r + 1), group(r + 2), group(r + 3)});
  }
  for (; r < rows; ++r) QuantiseOne(values + r * stride, group(r));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
