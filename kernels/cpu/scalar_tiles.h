// Tile registers in plain code: the twin of AmxTiles (amx_tiles-inl.h) after the Intel SDM's
// operation sections (volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS), so that the logic of
// tile kernels runs, and is checked, on every machine. What faults there (#GP, #UD) is a failed
// CHECK here. One thread; each instance is a register file of its own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu {
namespace {

/// Denormals count as zeros of their sign.
inline float FlushDenormal(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7F800000u) == 0) bits &= 0x80000000u;
  std::memcpy(&x, &bits, sizeof(bits));
  return x;
}

/// a * b + c, rounded once to the nearest even float with denormal inputs and tiny results flushed
/// to zero, as with MXCSR's DAZ and FTZ set. a and b are bf16 or one of them is 1, so that a * b
/// is exact in double. A result is tiny if it would be below 2^-126 when rounded to 24 bits with
/// an unbounded exponent: what rounds up to 2^-126 from less than half an ulp below is kept.
inline float FusedFlushed(float a, float b, float c) {
  a = FlushDenormal(a);
  b = FlushDenormal(b);
  c = FlushDenormal(c);
  const float rounded = __builtin_fmaf(a, b, c);
  if (rounded == 0 || !(__builtin_fabsf(rounded) <= 0x1p-126f)) return rounded;
  // The exact value as sum + error (Knuth's two-sum).
  const double product = static_cast<double>(a) * b, addend = c;
  const double sum = product + addend, part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);
  const double bound = 0x1p-126 - 0x1p-151;
  const double size = __builtin_fabs(sum), past = sum < 0 ? -error : error;
  const bool tiny = size < bound || (size == bound && past < 0);
  return tiny ? __builtin_copysignf(0.0f, rounded) : rounded;
}

/// c + a x b of a pair of bf16, the odd one in the upper half, as VDPBF16PS has it.
inline float DotFlushed(uint32_t a, uint32_t b, float c) {
  const auto value = [](uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
  };
  c = FusedFlushed(value(a & 0xFFFF0000u), value(b & 0xFFFF0000u), c);
  return FusedFlushed(value(a << 16), value(b << 16), c);
}

class ScalarTiles {
 public:
  static bool Valid(const TileConfig& config) {
    bool valid = config.palette == 1 && config.start_row == 0;
    for (const uint8_t byte : config.reserved) valid = valid && byte == 0;
    for (int t = 0; t < 16; ++t) {
      const bool used = t < kTileRegisters;
      valid = valid && config.rows[t] <= (used ? kTileMaxRows : 0);
      valid = valid && config.colsb[t] <= (used ? kTileRowBytes : 0);
      valid = valid && (config.rows[t] == 0) == (config.colsb[t] == 0);
    }
    return valid;
  }
  /// May C += A x B be computed over these shapes?
  static bool Fits(const TileConfig& config, int c, int a, int b) {
    return c != a && c != b && a != b && config.rows[c] != 0 && config.rows[a] != 0 &&
           config.rows[b] != 0 && config.rows[c] == config.rows[a] &&
           config.colsb[c] == config.colsb[b] && config.colsb[a] == 4 * config.rows[b] &&
           config.colsb[c] % 4 == 0;
  }

  void Configure(const TileConfig& config) {
    MODU_CHECK(Valid(config));
    config_ = config;
    std::memset(data_, 0, sizeof(data_));
  }
  void Release() {
    config_ = TileConfig{.palette = 0};
    std::memset(data_, 0, sizeof(data_));
  }

  template <int kTile>
  void Zero() {
    MODU_CHECK(rows(kTile) != 0);
    std::memset(data_[kTile], 0, sizeof(data_[kTile]));
  }
  /// Bytes past the configured columns and rows become zero.
  template <int kTile>
  void Load(const void* base, int64_t stride) {
    Zero<kTile>();
    for (int r = 0; r < rows(kTile); ++r) {
      std::memcpy(data_[kTile][r], static_cast<const std::byte*>(base) + r * stride,
                  config_.colsb[kTile]);
    }
  }
  template <int kTile>
  void LoadOnce(const void* base, int64_t stride) {
    Load<kTile>(base, stride);
  }
  template <int kTile>
  void Store(void* base, int64_t stride) const {
    MODU_CHECK(rows(kTile) != 0);
    for (int r = 0; r < rows(kTile); ++r) {
      std::memcpy(static_cast<std::byte*>(base) + r * stride, data_[kTile][r],
                  config_.colsb[kTile]);
    }
  }

  /// An output's even and odd members of the pairs are two chains of FMAs in rising k, each from
  /// zero; their sum is added to C. Denormals in and out are zeros, MXCSR does not count.
  template <int kC, int kA, int kB>
  void DotBf16() {
    MODU_CHECK(Fits(config_, kC, kA, kB));
    for (int m = 0; m < rows(kC); ++m) {
      for (int n = 0; n < config_.colsb[kC] / 4; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < rows(kB); ++k) {
          even = FusedFlushed(Bf16(kA, m, 2 * k), Bf16(kB, k, 2 * n), even);
          odd = FusedFlushed(Bf16(kA, m, 2 * k + 1), Bf16(kB, k, 2 * n + 1), odd);
        }
        float c;
        std::memcpy(&c, data_[kC][m] + 4 * n, sizeof(c));
        c = FusedFlushed(c, 1, FusedFlushed(even, 1, odd));
        std::memcpy(data_[kC][m] + 4 * n, &c, sizeof(c));
      }
    }
    // Rows and columns past C's shape are zero already: nothing writes them.
  }

 protected:
  int rows(int tile) const { return config_.rows[tile]; }

  float Bf16(int tile, int row, int at) const {
    uint16_t upper;
    std::memcpy(&upper, data_[tile][row] + 2 * at, sizeof(upper));
    const uint32_t bits = uint32_t{upper} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }

  TileConfig config_{.palette = 0};
  std::byte data_[kTileRegisters][kTileMaxRows][kTileRowBytes] = {};
};

/// The twin of DotTiles (dot_tiles-inl.h): a tile product adds pair by pair to C, as VDPBF16PS
/// does.
class ScalarDotTiles : public ScalarTiles {
 public:
  template <int kC, int kA, int kB>
  void DotBf16() {
    MODU_CHECK(Fits(config_, kC, kA, kB));
    for (int m = 0; m < rows(kC); ++m) {
      for (int n = 0; n < config_.colsb[kC] / 4; ++n) {
        float c;
        std::memcpy(&c, data_[kC][m] + 4 * n, sizeof(c));
        for (int k = 0; k < rows(kB); ++k) {
          uint32_t a, b;
          std::memcpy(&a, data_[kA][m] + 4 * k, sizeof(a));
          std::memcpy(&b, data_[kB][k] + 4 * n, sizeof(b));
          c = DotFlushed(a, b, c);
        }
        std::memcpy(data_[kC][m] + 4 * n, &c, sizeof(c));
      }
    }
  }
};

}  // namespace
}  // namespace modu::kernels::cpu
