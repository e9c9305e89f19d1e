// A group of 32 activations to int8 (prepared.h), by the definition: what groups that are taken
// together (quantise_four-inl.h, quantise_sixteen-inl.h) give the same bits as. Included by
// op_dtype_isa files only.
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
  uint16_t* begin;
  float *scale, *centre;
  int32_t more;  // in begin

  void Store(float its_scale, float its_centre, int32_t minus_sums) const {
    *scale = its_scale;
    *centre = its_centre;
    *begin = static_cast<uint16_t>(minus_sums + more);
  }
};
MODU_INLINE GroupPlace PlaceOf(std::byte* row, int64_t g) {
  auto& pair = reinterpret_cast<UnfinishedPair*>(row)[g / 2];
  return {pair.values + g % 2 * kGroup, pair.begin + g % 2, pair.scale + g % 2, pair.centre + g % 2,
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

/// A range below 1e-36 (kInt8Steps / it would overflow) becomes its centre alone; a group with a
/// NaN or an infinity gets a NaN scale. least: what a centre has to take off the square of its
/// largest value.
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
      d = reach / kInt8Steps;
      inverse = kInt8Steps / reach;
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
  place.Store(d, centre, -8 * _mm_cvtsi128_si32(total));
}

/// What a centre has to gain in a row whose groups' largest values have that sum of squares.
MODU_INLINE float LeastOf(float squares) {
  const float least = kGain * squares;
  return least > 0 && least < __builtin_inff() ? least : kNoCentres;
}

/// The same of a whole row; NaN values do not count.
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
  return LeastOf(squares);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
