// The tile products of attention on AVX512-BF16, for processors without tile registers that
// multiply pairs of bf16 as fast as floats (Zen 4 and later: twice the products of f32). Sums stay
// in registers over a whole series of tiles (attention_series-inl.h), as many chains of dot
// products side by side as their latency takes. Each output is one chain over rising pairs, so that
// bits depend on the row alone, but differ from AMX's. ScalarDotTiles is the twin in plain code,
// tile by tile. Included by op_dtype_isa files only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_series-inl.h"
#include "kernels/cpu/dot_pairs-inl.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

struct DotSeries {
  template <int kRows, int kColumns>
  static void Run(const SeriesProduct& p, BlocksAhead& ahead) {
    Float sum[kRows][kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) sum[r][n] = Zero();
    }
    const std::byte* const* b = p.b;
    for (int t = 0; t < p.tiles; ++t, b += kColumns) {
      const std::byte* a = p.a + t * p.a_tile_bytes;
      const std::byte* columns[kColumns];
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) columns[n] = b[n];
      const int64_t end = (t + 1 < p.tiles ? kTileMaxRows : p.pairs) * int64_t{kTileRowBytes};
      for (int64_t at = 0; at < end; at += kTileRowBytes, a += 4) {
        Int column[kColumns];
#pragma GCC unroll 4
        for (int n = 0; n < kColumns; ++n) column[n] = _mm512_loadu_si512(columns[n] + at);
        ahead.Fetch<kColumns>();
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Int row = BroadcastPair(a + r * p.a_row_bytes);
#pragma GCC unroll 4
          for (int n = 0; n < kColumns; ++n) sum[r][n] = DotPairs(sum[r][n], column[n], row);
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) Store(p.out + r * p.out_stride + 16 * n, sum[r][n]);
    }
  }
};

class DotTiles {
 public:
  static void Series(int rows, int columns, const SeriesProduct& product, BlocksAhead& ahead) {
    SeriesTable<DotSeries, SeriesProduct>::Run(rows, columns, product, ahead);
  }
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
