// Rows to B tiles of bf16 (PreparedKind::kBf16Tiles), and tiles of products back to rows. With
// AVX512-BF16 and in plain code; the same bits. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector_bf16-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(__AVX512BF16__)

/// put(row, from[16][row]) for `rows` of 16 rows.
template <typename Put>
MODU_INLINE void ForRowsOfTile(const float* from, int rows, const Put& put) {
  if (rows <= 4) {
    const Int at =
        _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
    for (int r = 0; r < rows; ++r) put(r, Group{{_mm512_i32gather_ps(at, from + r, 4)}});
    return;
  }
  Float x[16], y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const Float even = Load(from + 32 * i), odd = Load(from + 32 * i + 16);
    x[2 * i] = _mm512_unpacklo_ps(even, odd);
    x[2 * i + 1] = _mm512_unpackhi_ps(even, odd);
  }
  // 4 x 4 blocks: y[4 b + c] holds, in lane l, rows 4 l + c of columns 4 b .. 4 b + 3.
#pragma GCC unroll 4
  for (int b = 0; b < 4; ++b) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      const auto low = _mm512_castps_pd(x[4 * b + c]), high = _mm512_castps_pd(x[4 * b + 2 + c]);
      y[4 * b + 2 * c] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      y[4 * b + 2 * c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Float ab = _mm512_shuffle_f32x4(y[c], y[4 + c], 0x44);
    const Float ab_high = _mm512_shuffle_f32x4(y[c], y[4 + c], 0xEE);
    const Float cd = _mm512_shuffle_f32x4(y[8 + c], y[12 + c], 0x44);
    const Float cd_high = _mm512_shuffle_f32x4(y[8 + c], y[12 + c], 0xEE);
    x[c] = _mm512_shuffle_f32x4(ab, cd, 0x88);
    x[4 + c] = _mm512_shuffle_f32x4(ab, cd, 0xDD);
    x[8 + c] = _mm512_shuffle_f32x4(ab_high, cd_high, 0x88);
    x[12 + c] = _mm512_shuffle_f32x4(ab_high, cd_high, 0xDD);
  }
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    if (r < rows) put(r, Group{{x[r]}});
  }
}

#else

template <typename Put>
void ForRowsOfTile(const float* from, int rows, const Put& put) {
  for (int r = 0; r < rows; ++r) {
    alignas(64) float row[kTileMaxRows];
    for (int n = 0; n < kTileMaxRows; ++n) row[n] = from[n * kTileMaxRows + r];
    put(r, LoadGroup(row));
  }
}

#endif

/// to[row][16] = from[16][row] for `rows` of 16 rows.
MODU_INLINE void TransposeTile(const float* from, int rows, float* to, int64_t stride) {
  ForRowsOfTile(from, rows, [&](int r, const Group& x) { StoreGroup(to + r * stride, x); });
}

/// 32 columns of up to 16 rows, `stride` floats apart, to one B tile; zeros in the others.
MODU_INLINE void StoreRowTile(const float* values, int64_t stride, int rows, std::byte* tile) {
  alignas(64) std::byte pairs[kTileMaxRows * kTileRowBytes];  // [16 rows][32] bf16
  for (int r = 0; r < rows; ++r) {
    const float* const from = values + r * stride;
    StoreBf16(pairs + r * kTileRowBytes, LoadGroup(from), LoadGroup(from + 16));
  }
  if (rows < kTileMaxRows) {
    __builtin_memset(pairs + rows * kTileRowBytes, 0,
                     static_cast<size_t>((kTileMaxRows - rows) * kTileRowBytes));
  }
  TransposeTile(reinterpret_cast<const float*>(pairs), kTileMaxRows, reinterpret_cast<float*>(tile),
                kTileMaxRows);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
