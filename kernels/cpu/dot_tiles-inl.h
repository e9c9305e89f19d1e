// The tiles of attention on AVX512-BF16, behind the interface of AmxTiles: for processors without
// tile registers that multiply pairs of bf16 as fast as floats (Zen 4 and later: twice the products
// of f32). A tile of A or B is a place in memory until it is multiplied, a tile of C lies in a
// buffer between products; each output is one chain of dot products over rising pairs, so that bits
// depend on the row alone, but differ from AMX's. ScalarDotTiles is the twin in plain
// code. Included by op_dtype_isa files only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/dot_pairs-inl.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// c[r][16] (+)= the sum over i < pairs of a[r][i] x b[i]; rows of all three are 64 bytes.
template <int kRows>
void DotRows(const std::byte* a, const std::byte* b, int pairs, bool from_zero, float* c) {
  Float sum[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r] = from_zero ? Zero() : Load(c + 16 * r);
  for (int i = 0; i < pairs; ++i, a += 4, b += kTileRowBytes) {
    const Int columns = _mm512_loadu_si512(b);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      sum[r] = DotPairs(sum[r], columns, BroadcastPair(a + r * kTileRowBytes));
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) Store(c + 16 * r, sum[r]);
}

/// Tiles::Series of attention_series-inl.h for kRows rows. As many chains of dot products run side
/// by side as their latency takes; tile by tile, few rows would wait for their own sums.
template <int kRows, int kColumns, typename Rows, typename Tile, typename Fetch>
void DotSeries(const Rows& a, int tiles, int pairs, const Tile& b, const Fetch& fetch,
               float* const (&out)[kColumns], int64_t out_stride) {
  Float sum[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; ++n) sum[r][n] = Zero();
  }
  for (int t = 0; t < tiles; ++t) {
    const std::byte* rows = a.base + t * a.tile_bytes;
    const std::byte* columns[kColumns];
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; ++n) columns[n] = b(t, n);
    const int64_t end = (t + 1 < tiles ? kTileMaxRows : pairs) * int64_t{kTileRowBytes};
    for (int64_t at = 0; at < end; at += kTileRowBytes, rows += 4) {
      Int column[kColumns];
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) column[n] = _mm512_loadu_si512(columns[n] + at);
      fetch();
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Int row = BroadcastPair(rows + r * a.row_bytes);
#pragma GCC unroll 4
        for (int n = 0; n < kColumns; ++n) sum[r][n] = DotPairs(sum[r][n], column[n], row);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; ++n) Store(out[n] + r * out_stride, sum[r][n]);
  }
}

using DotRowsFn = void (*)(const std::byte* a, const std::byte* b, int pairs, bool from_zero,
                           float* c);
constexpr DotRowsFn kDotRows[kTileMaxRows + 1] = {
    nullptr,     DotRows<1>,  DotRows<2>,  DotRows<3>,  DotRows<4>,  DotRows<5>,
    DotRows<6>,  DotRows<7>,  DotRows<8>,  DotRows<9>,  DotRows<10>, DotRows<11>,
    DotRows<12>, DotRows<13>, DotRows<14>, DotRows<15>, DotRows<16>};

class DotTiles {
 public:
  static constexpr int kSeriesRows = 8;  // more make enough chains tile by tile
  /// Side by side: what fits 32 registers.
  static constexpr int SeriesColumns(int rows) { return rows <= 4 ? 4 : 2; }
  template <int kColumns, typename... Args>
  static void Series(int rows, const Args&... args) {
    switch (rows) {
      case 1:
        return DotSeries<1, kColumns>(args...);
      case 2:
        return DotSeries<2, kColumns>(args...);
      case 3:
        return DotSeries<3, kColumns>(args...);
      case 4:
        return DotSeries<4, kColumns>(args...);
      default:
        break;
    }
    if constexpr (kColumns <= SeriesColumns(kSeriesRows)) {
      switch (rows) {
        case 5:
          return DotSeries<5, kColumns>(args...);
        case 6:
          return DotSeries<6, kColumns>(args...);
        case 7:
          return DotSeries<7, kColumns>(args...);
        default:
          return DotSeries<8, kColumns>(args...);
      }
    }
  }

  /// All tiles of C and A have as many rows as tile 0.
  MODU_INLINE void Configure(const TileConfig& config) {
    config_ = config;
    for (bool& zero : is_zero_) zero = true;
    dot_rows_ = kDotRows[config.rows[0]];
  }
  MODU_INLINE void Release() {}

  template <int kTile>
  MODU_INLINE void Zero() {
    is_zero_[kTile] = true;
  }
  /// Of A and B. Rows that lie further apart than a tile's are copied, of tile 4 alone; others must
  /// stay until multiplied.
  template <int kTile>
  MODU_INLINE void Load(const void* base, int64_t stride) {
    static_assert(kTile >= 4);
    const auto* from = static_cast<const std::byte*>(base);
    if (kTile == 4 && stride != kTileRowBytes) {
      for (int r = 0; r < config_.rows[kTile]; ++r) {
        _mm512_store_si512(copy_ + r * kTileRowBytes, _mm512_loadu_si512(from + r * stride));
      }
      from = copy_;
    }
    place_[kTile] = from;
  }
  /// Of C: tiles 0 to 3.
  template <int kTile>
  MODU_INLINE void Store(void* base, int64_t stride) {
    auto* to = static_cast<std::byte*>(base);
    for (int r = 0; r < config_.rows[kTile]; ++r, to += stride) {
      _mm512_storeu_ps(to,
                       is_zero_[kTile] ? _mm512_setzero_ps() : _mm512_load_ps(c_[kTile] + 16 * r));
    }
  }
  template <int kC, int kA, int kB>
  MODU_INLINE void DotBf16() {
    dot_rows_(place_[kA], place_[kB], config_.rows[kB], is_zero_[kC], c_[kC]);
    is_zero_[kC] = false;
  }

 private:
  TileConfig config_;
  DotRowsFn dot_rows_ = nullptr;
  const std::byte* place_[kTileRegisters] = {};
  bool is_zero_[4] = {};
  alignas(64) float c_[4][kTileMaxRows * 16];
  alignas(64) std::byte copy_[kTileMaxRows * kTileRowBytes];
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
