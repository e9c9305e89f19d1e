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

using DotRowsFn = void (*)(const std::byte* a, const std::byte* b, int pairs, bool from_zero,
                           float* c);
constexpr DotRowsFn kDotRows[kTileMaxRows + 1] = {
    nullptr,     DotRows<1>,  DotRows<2>,  DotRows<3>,  DotRows<4>,  DotRows<5>,
    DotRows<6>,  DotRows<7>,  DotRows<8>,  DotRows<9>,  DotRows<10>, DotRows<11>,
    DotRows<12>, DotRows<13>, DotRows<14>, DotRows<15>, DotRows<16>};

class DotTiles {
 public:
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
