// Groups of 32 activations to int8 (prepared.h): one by one by the definition, and four at a time,
// where what is worked out once a group is so for four groups in one register. The bits are the
// same either way, and on all sets: AVX2's registers. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// A group has a centre where that takes this share off the sum of the squares of all groups'
/// largest values, which a product's error goes by: kernels take longer over groups that have one.
constexpr float kGain = 0.015f;
/// For rows in pieces, whose rest is not known: no gain is at least this.
const float kNoCentres = __builtin_nanf("");

/// Where a group of a row goes.
struct GroupPlace {
  int8_t* values;
  int32_t* begin;
  float* scale;  // then, `to_next` on, the centre, then the mean
  int64_t to_next;
  int32_t more;  // in begin

  void Store(float scale_of, float centre, float mean, int32_t minus_sums) const {
    scale[0] = scale_of;
    scale[to_next] = centre;
    scale[2 * to_next] = mean;
    *begin = minus_sums + more;
  }
};
MODU_INLINE GroupPlace PlaceOf(std::byte* row, int64_t groups, int64_t g) {
  auto& pair = reinterpret_cast<Int8Pair*>(row)[g / 2];
  return {pair.values + g % 2 * kGroup, pair.begin + g % 2,
          reinterpret_cast<float*>(row + Int8ScalesOffset(groups)) + g, PaddedGroups(groups),
          g % 2 == 0 ? 0x8000 : 0};
}

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

/// 32 values as bytes in their order; returns eight sums of four.
MODU_INLINE __m256i StoreSteps(const __m256i (&q)[4], int8_t* values) {
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                      _mm256_permutevar8x32_epi32(bytes, order));
  return _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
}

/// A range below 1e-36 (127 / it would overflow) becomes its centre alone; a group with a NaN or an
/// infinity gets a NaN scale. least: what a centre has to take off the square of its largest value.
void QuantiseGroup(const float* values, float least, const GroupPlace& place) {
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
  float centre = 0, d = 0, inverse = 0;
  if (_mm_cvtsi128_si32(four) >= 0x7f800000) {
    d = __builtin_nanf("");
    for (__m256& part : x) part = _mm256_setzero_ps();
  } else {
    const float low =
        Extreme<false>(_mm256_min_ps(_mm256_min_ps(x[0], x[1]), _mm256_min_ps(x[2], x[3])));
    const float high =
        Extreme<true>(_mm256_max_ps(_mm256_max_ps(x[0], x[1]), _mm256_max_ps(x[2], x[3])));
    const float middle = 0.5f * low + 0.5f * high;
    const float most = high > -low ? high : -low;
    float reach = high - middle > middle - low ? high - middle : middle - low;
    if (most * most - reach * reach >= least) {
      centre = middle + 0.0f;  // not -0: which zero is least does not count
    } else {
      reach = most;
    }
    if (reach >= 1e-36f) {
      d = reach / 127.0f;
      inverse = 127.0f / reach;
    }
  }
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_sub_ps(x[i], _mm256_set1_ps(centre)), _mm256_set1_ps(inverse)));
  }
  const __m256i eight = StoreSteps(q, place.values);
  __m128i total = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4E));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xB1));
  const int sum = _mm_cvtsi128_si32(total);
  place.Store(d, centre, __builtin_fmaf(d, static_cast<float>(sum) / kGroup, centre), -8 * sum);
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
  const __m128 some = _mm_cmpge_ps(reach, _mm_set1_ps(1e-36f)), steps = _mm_set1_ps(127.0f);
  const __m128 scale = _mm_and_ps(some, _mm_div_ps(reach, steps));
  alignas(16) float centres[4], inverses[4], scales[4], means[4];
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
  const __m128 of_group = _mm_mul_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps(1.0f / kGroup));
  _mm_store_ps(means, _mm_fmadd_ps(scale, of_group, centre));
  _mm_store_si128(reinterpret_cast<__m128i*>(begins),
                  _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(sum, 3)));
  for (int i = 0; i < 4; ++i) places[i].Store(scales[i], centres[i], means[i], begins[i]);
}

/// What a centre of a whole row has to gain; NaN values do not count.
MODU_INLINE float LeastGain(const float* values, int64_t groups) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  float squares = 0;
  for (int64_t g = 0; g < groups; ++g, values += kGroup) {
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      most = _mm256_max_ps(_mm256_and_ps(magnitude, _mm256_loadu_ps(values + 8 * i)), most);
    }
    const float largest = Extreme<true>(most);
    squares = __builtin_fmaf(largest, largest, squares);
  }
  const float least = kGain * squares;
  return least > 0 && least < __builtin_inff() ? least : kNoCentres;
}

/// Columns [first, first + count) of a row of `groups` groups. Whoever writes the last one writes
/// the zeros behind it.
MODU_INLINE void QuantiseRow(const float* values, int64_t count, std::byte* row, int64_t groups,
                             int64_t first) {
  const auto place = [&](int64_t g) { return PlaceOf(row, groups, g); };
  const float least = count == groups * kGroup ? LeastGain(values, groups) : kNoCentres;
  const int64_t end = (first + count) / kGroup;
  int64_t g = first / kGroup;
  for (; g + 4 <= end; g += 4) {
    const float* const v = values + (g * kGroup - first);
    QuantiseFour({v, v + kGroup, v + 2 * kGroup, v + 3 * kGroup}, least,
                 {place(g), place(g + 1), place(g + 2), place(g + 3)});
  }
  for (; g < end; ++g) QuantiseGroup(values + (g * kGroup - first), least, place(g));
  if (end != groups) return;
  if (groups % 2 != 0) {
    const GroupPlace last = place(groups);
    __builtin_memset(last.values, 0, kGroup);
    *last.begin = 0;
  }
  for (; g < PaddedGroups(groups); ++g) {
    float* const scale = place(0).scale + g;
    for (int i = 0; i < 3; ++i) scale[i * PaddedGroups(groups)] = 0;
  }
}

/// The group at column `first` of several rows, which is not their last.
MODU_INLINE void QuantiseColumn(const float* values, int64_t stride, int rows, std::byte* row,
                                int64_t row_bytes, int64_t groups, int64_t first) {
  const auto place = [&](int r) { return PlaceOf(row + r * row_bytes, groups, first / kGroup); };
  int r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float* const v = values + r * stride;
    QuantiseFour({v, v + stride, v + 2 * stride, v + 3 * stride}, kNoCentres,
                 {place(r), place(r + 1), place(r + 2), place(r + 3)});
  }
  for (; r < rows; ++r) QuantiseGroup(values + r * stride, kNoCentres, place(r));
}

/// x * factor to the nearest int16 of each of eight groups, two groups in a dword.
MODU_INLINE __m128i ToHalves(const float* x, __m256 factor) {
  const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
  return _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
}

/// From the scales, centres and means behind a row's pairs: its unit, and all of them in it.
MODU_INLINE void FinishRow(std::byte* row, int64_t groups) {
  auto* const pairs = reinterpret_cast<Int8Pair*>(row);
  std::byte* const end = row + Int8RowEndOffset(groups);
  const int64_t padded = PaddedGroups(groups);
  const float* const scales = reinterpret_cast<const float*>(row + Int8ScalesOffset(groups));
  const float* const centres = scales + padded;
  const float* const means = centres + padded;
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 part = _mm256_set1_ps(1.0f / 127.0f);
  __m256 most = _mm256_setzero_ps(), none = _mm256_setzero_ps();
  for (int64_t g = 0; g < padded; g += 8) {
    const __m256 scale = _mm256_loadu_ps(scales + g);
    const __m256 size = _mm256_and_ps(magnitude, _mm256_loadu_ps(centres + g));
    most = _mm256_max_ps(most, _mm256_fmadd_ps(size, part, scale));
    none = _mm256_add_ps(none, _mm256_sub_ps(scale, scale));
  }
  float unit = Extreme<true>(most);
  const float inverse = unit >= 1e-30f ? 1.0f / unit : 0.0f;  // times 2^15 it is finite
  if (_mm256_movemask_ps(_mm256_cmp_ps(none, none, _CMP_UNORD_Q)) != 0) unit = __builtin_nanf("");
  __builtin_memcpy(end, &unit, sizeof(unit));
  auto* const centred = reinterpret_cast<uint32_t*>(end + sizeof(unit));
  for (int64_t g = 0; g < padded; g += 8) {
    alignas(16) uint32_t halves[3][4];
    const auto store = [](uint32_t* to, __m128i x) {
      _mm_store_si128(reinterpret_cast<__m128i*>(to), x);
    };
    store(halves[0], ToHalves(scales + g, _mm256_set1_ps(inverse * 32768.0f)));
    store(halves[1], ToHalves(means + g, _mm256_set1_ps(inverse * 8.0f * kGroup)));
    store(halves[2], ToHalves(centres + g, _mm256_set1_ps(inverse * 32.0f)));
    uint32_t with_centre = 0;
    for (int64_t i = 0; i < 4 && g / 2 + i < PairsOf(groups); ++i) {
      Int8Pair& pair = pairs[g / 2 + i];
      pair.scales = halves[0][i];
      pair.totals = halves[1][i];
      pair.centres = halves[2][i];
      with_centre |= static_cast<uint32_t>(halves[2][i] != 0) << i;
    }
    const int64_t first = g / 2 % kChunkPairs;
    uint32_t& mask = centred[g / 2 / kChunkPairs];
    mask = (first == 0 ? 0 : mask) | with_centre << first;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
