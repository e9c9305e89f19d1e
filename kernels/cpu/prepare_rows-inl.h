// Writing rows of f32 activations as Prepared (prepared.h), for every kind. AVX2's registers on all
// sets, so that the bits are the same. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// 8 activations to bf16 patterns in the upper halves; NaN stays NaN.
MODU_INLINE __m256i RoundActivations(const float* values) {
  const __m256 x = _mm256_loadu_ps(values);
  const __m256 quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  return _mm256_castps_si256(
      _mm256_blendv_ps(RoundToBf16(x), quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
MODU_INLINE uint32_t RoundActivation(const float* value) {
  uint32_t bits;
  __builtin_memcpy(&bits, value, sizeof(bits));
  return (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x7fffffffu
                                            : (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
}

MODU_INLINE float RoundedToBf16(float x) {
  const uint32_t bits = RoundActivation(&x);
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
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

/// 32 activations to int8 and their centre, in bf16 if asked. A range below 1e-36 (127 / it would
/// overflow) becomes its centre alone; a group with a NaN or an infinity gets a NaN scale.
template <bool kBf16Centre>
MODU_INLINE void QuantiseGroup(const float* values, Int8Group* group) {
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
    middle = 0.5f * low + 0.5f * high;
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

MODU_INLINE void PrepareBf16(const float* values, int64_t count, float* out) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    _mm256_storeu_ps(out + k, _mm256_castsi256_ps(RoundActivations(values + k)));
  }
  for (; k < count; ++k) {
    const uint32_t bits = RoundActivation(values + k);
    __builtin_memcpy(out + k, &bits, sizeof(bits));
  }
}

MODU_INLINE void PrepareBf16Pairs(const float* values, int64_t count, std::byte* out) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    const __m256i upper = _mm256_srli_epi32(RoundActivations(values + k), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + 2 * k),
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
  }
  for (; k < count; ++k) {
    const auto bits = static_cast<uint16_t>(RoundActivation(values + k) >> 16);
    __builtin_memcpy(out + 2 * k, &bits, sizeof(bits));
  }
}

MODU_INLINE void QuantiseGroups(const float* values, int64_t count, Int8Group* groups) {
  for (int64_t g = 0; g < count / kGroup; ++g) {
    QuantiseGroup<false>(values + g * kGroup, groups + g);
  }
}
MODU_INLINE void QuantiseGroups(const float* values, int64_t count, Int8PairsGroup* groups) {
  for (int64_t g = 0; g < count / kGroup; ++g) {
    Int8Group whole;
    QuantiseGroup<true>(values + g * kGroup, &whole);
    Int8PairsGroup& to = groups[g];
    __builtin_memcpy(to.values, whole.values, sizeof(whole.values));
    to.scale = whole.scale;
    to.pair = RoundActivation(&whole.total) >> 16 | RoundActivation(&whole.centre);
    to.minus_sum = -8 * whole.sum;
    to.centre = whole.centre;
  }
}

/// The same with denormals as zeros of their sign, which tile products take them for: also those
/// that would round up to a normal number.
MODU_INLINE __m256i RoundForTiles(const float* values) {
  const __m256 x = _mm256_loadu_ps(values);
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 denormal =
      _mm256_cmp_ps(_mm256_xor_ps(x, sign), _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(RoundActivations(values)), sign, denormal));
}
MODU_INLINE uint32_t RoundOneForTiles(const float* value) {
  const uint32_t bits = RoundActivation(value);
  return __builtin_fabsf(*value) < 0x1p-126f ? bits & 0x80000000u : bits;
}

/// The row's place in each line of its block, a pair of inputs. Whoever writes the last column
/// writes the zeros after it.
MODU_INLINE void PrepareTiles(const float* values, int64_t first, int64_t count, int64_t cols,
                              std::byte* row) {
  std::byte* out = row + first / 2 * kTileRowBytes;
  int64_t k = 0;
  for (; k + 8 <= count; k += 8, out += 4 * kTileRowBytes) {
    const __m256i upper = _mm256_srli_epi32(RoundForTiles(values + k), 16);
    const __m128i pairs =
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
    const int words[] = {_mm_extract_epi32(pairs, 0), _mm_extract_epi32(pairs, 1),
                         _mm_extract_epi32(pairs, 2), _mm_extract_epi32(pairs, 3)};
    for (int i = 0; i < 4; ++i) __builtin_memcpy(out + i * kTileRowBytes, words + i, 4);
  }
  for (; k < count; k += 2, out += kTileRowBytes) {
    const uint32_t low = RoundOneForTiles(values + k) >> 16;
    const uint32_t high = k + 1 < count ? RoundOneForTiles(values + k + 1) & 0xFFFF0000u : 0;
    const uint32_t pair = low | high;
    __builtin_memcpy(out, &pair, sizeof(pair));
  }
  if (first + count != cols) return;
  for (int64_t end = cols + cols % 2; end % kGroup != 0; end += 2) {
    __builtin_memset(row + end / 2 * kTileRowBytes, 0, 4);
  }
}

void Prepare(const PreparedLayout& layout, std::byte* row, int64_t first, int64_t count,
             const float* values) {
  switch (layout.kind) {
    case PreparedKind::kF32:
      __builtin_memcpy(reinterpret_cast<float*>(row) + first, values,
                       static_cast<size_t>(count) * sizeof(float));
      return;
    case PreparedKind::kBf16:
      return PrepareBf16(values, count, reinterpret_cast<float*>(row) + first);
    case PreparedKind::kBf16Pairs:
      return PrepareBf16Pairs(values, count, row + 2 * first);
    case PreparedKind::kBf16Tiles:
      return PrepareTiles(values, first, count, layout.cols, row);
    case PreparedKind::kInt8:
      return QuantiseGroups(values, count, reinterpret_cast<Int8Group*>(row) + first / kGroup);
    case PreparedKind::kInt8Pairs:
      return QuantiseGroups(values, count, reinterpret_cast<Int8PairsGroup*>(row) + first / kGroup);
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
