// Writing rows of f32 activations as Prepared (prepared.h), for every kind. The bits are the same
// on all sets: bf16 by AVX2's registers on all of them. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/finish_row-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/quantise_rows-inl.h"
#include "kernels/cpu/round_activations-inl.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

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
      QuantiseRow(values, count, row, layout.groups(), first);
      if (count == layout.cols) FinishRow(row, layout.groups());
      return;
  }
}

/// Prepare of several rows, `layout.row_bytes` apart; values: rows, `stride` floats apart.
void PrepareRows(const PreparedLayout& layout, std::byte* row, int rows, int64_t first,
                 int64_t count, const float* values, int64_t stride) {
  const bool is_last = first + count == layout.cols;
  if (layout.kind == PreparedKind::kInt8 && count == kGroup && !is_last) {
    return QuantiseDown(values, stride, rows, row, layout.row_bytes, first / kGroup);
  }
  for (int r = 0; r < rows; ++r) {
    Prepare(layout, row + r * layout.row_bytes, first, count, values + r * stride);
  }
}

void FinishRows(const PreparedLayout& layout, std::byte* row, int rows) {
  for (int r = 0; r < rows; ++r) FinishRow(row + r * layout.row_bytes, layout.groups());
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
