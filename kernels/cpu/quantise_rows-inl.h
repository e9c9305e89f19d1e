// Rows of activations to int8 (prepared.h): pieces of them, and what is known once all pieces of a
// row are. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"
#if defined(MODU_VECTOR_AVX512)
#include "kernels/cpu/quantise_sixteen-inl.h"
#else
#include "kernels/cpu/quantise_four-inl.h"
#endif

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Columns [first, first + count) of a row of `groups` groups. Whoever writes the last one writes
/// the zeros behind it.
MODU_INLINE void QuantiseRow(const float* values, int64_t count, std::byte* row, int64_t groups,
                             int64_t first) {
  const int64_t end = (first + count) / kGroup;
  QuantiseAlong(values, row, groups, first / kGroup, end);
  if (end != groups) return;
  if (groups % 2 != 0) {
    const GroupPlace last = PlaceOf(row, groups, groups);
    __builtin_memset(last.values, 0, kGroup);
    *last.begin = 0;
  }
  float* const scales = PlaceOf(row, groups, 0).scale;
  for (int64_t g = groups; g < PaddedGroups(groups); ++g) {
    for (int i = 0; i < 3; ++i) scales[i * PaddedGroups(groups) + g] = 0;
  }
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
    most = _mm256_max_ps(_mm256_fmadd_ps(size, part, scale), most);  // NaN does not count
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
