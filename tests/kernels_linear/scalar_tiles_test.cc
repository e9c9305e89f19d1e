// The scalar twin of AMX's tiles against a model that knows no tiles: plain matrices and this
// processor's own FMA with denormals off. Where the machine has AMX its registers give the same
// bits.
#include "kernels/cpu/scalar_tiles.h"

#include <xmmintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
namespace {

using tests::Random;

constexpr unsigned kFlushAndZero = 0x8040;  // FTZ and DAZ

/// MXCSR with flushed denormals while it lives.
class DenormalsOff {
 public:
  DenormalsOff() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kFlushAndZero); }
  ~DenormalsOff() { _mm_setcsr(before_); }
  DenormalsOff(const DenormalsOff&) = delete;
  DenormalsOff& operator=(const DenormalsOff&) = delete;

 private:
  unsigned before_;
};

/// The processor's FMA and addition under MXCSR; not to be computed by the compiler.
float HardwareFma(float a, float b, float c) {
  asm volatile("vfmadd231ss %1, %2, %0" : "+x"(c) : "x"(a), "x"(b));
  return c;
}
float HardwareAdd(float a, float b) {
  asm volatile("addss %1, %0" : "+x"(a) : "x"(b));
  return a;
}

bool SameFloat(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (a != a && b != b);
}

bool SameFloats(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  for (size_t i = 0; i < a.size(); i += 4) {
    float x, y;
    std::memcpy(&x, a.data() + i, sizeof(x));
    std::memcpy(&y, b.data() + i, sizeof(y));
    if (!SameFloat(x, y)) return false;
  }
  return true;
}

float Bf16At(const std::vector<std::byte>& tile, int row, int at) {
  uint16_t bits;
  std::memcpy(&bits, tile.data() + row * kTileRowBytes + 2 * at, sizeof(bits));
  return Bf16ToFloat(bits);
}

struct Shape {
  int m, n, k;  // k in dwords of A's rows
};

/// C after the product, by plain loops over matrices.
std::vector<std::byte> Model(Shape s, const std::vector<std::byte>& a,
                             const std::vector<std::byte>& b, std::vector<std::byte> c) {
  for (int m = 0; m < s.m; ++m) {
    for (int n = 0; n < s.n; ++n) {
      std::byte* const out = c.data() + m * kTileRowBytes + 4 * n;
      const DenormalsOff off;
      float sums[2] = {0, 0};
      for (int i = 0; i < 2 * s.k; ++i) {
        sums[i % 2] = HardwareFma(Bf16At(a, m, i), Bf16At(b, i / 2, 2 * n + i % 2), sums[i % 2]);
      }
      float value;
      std::memcpy(&value, out, sizeof(value));
      value = HardwareAdd(value, HardwareAdd(sums[0], sums[1]));
      std::memcpy(out, &value, sizeof(value));
    }
  }
  return c;
}

/// A tile's memory: bf16 of several sizes, or (kind 4) of any bits.
std::vector<std::byte> RandomTile(Random& random, int kind) {
  std::vector<std::byte> tile(kTileMaxRows * kTileRowBytes);
  for (size_t i = 0; i < tile.size(); i += 2) {
    auto bits = static_cast<uint16_t>(random.Bits());
    if (kind == 0) bits = FloatToBf16(random.Gaussian());
    // Sizes whose products lie around the smallest normal number, and denormals.
    if (kind == 1) bits = static_cast<uint16_t>((bits & 0x803Fu) | (0x1F00u + (bits & 0x180u)));
    if (kind == 2) bits = static_cast<uint16_t>(bits & 0x80FFu);
    if (kind == 3 && (bits & 0x7F80u) == 0x7F80u) bits &= 0x80FFu;  // any finite number
    std::memcpy(tile.data() + i, &bits, sizeof(bits));
  }
  return tile;
}

}  // namespace

TEST_CASE("tile products are the matrix products that the manual describes") {
  const bool amx = DetectIsa() >= Isa::kAmx;
  if (!amx) WARN("skipped: AMX's own registers (" + MissingFor(Isa::kAmx, ReadMachine()) + ")");
  Random random(91);
  const Shape shapes[] = {{16, 16, 16}, {1, 16, 8}, {16, 16, 4}, {7, 16, 8},
                          {5, 3, 1},    {1, 1, 1},  {9, 13, 11}, {16, 1, 16}};
  for (const Shape s : shapes) {
    for (int kind = 0; kind < 5; ++kind) {
      INFO(s.m << " x " << s.n << " x " << s.k << " kind " << kind);
      TileConfig config;
      config.Set(0, s.m, 4 * s.n);
      config.Set(1, s.m, 4 * s.k);
      config.Set(2, s.k, 4 * s.n);
      const auto a = RandomTile(random, kind), b = RandomTile(random, kind);
      std::vector<std::byte> c(kTileMaxRows * kTileRowBytes);
      for (size_t i = 0; i < c.size(); i += 4) {
        const float value = kind == 0 ? random.Gaussian() : random.Gaussian() * 0x1p-126f;
        std::memcpy(c.data() + i, &value, sizeof(value));
      }
      const std::vector<std::byte> want = Model(s, a, b, c);
      std::vector<std::byte> got = c;
      ScalarTiles tiles;
      RunTileProduct(tiles, {config, a.data(), b.data(), got.data()});
      CHECK(SameFloats(got, want));  // outside of C's shape too: nothing may be stored there
      if (!amx) continue;
      std::vector<std::byte> hardware = c;
      RunTileProductAmx({config, a.data(), b.data(), hardware.data()});
      CHECK(SameFloats(got, hardware));
    }
  }
}

TEST_CASE("the twin's FMA is the processor's with denormals off, at the edge of the tiny too") {
  const DenormalsOff off;
  Random random(92);
  const auto around = [&](int kind) {
    uint32_t bits = random.Bits();
    if (kind == 1) bits = (bits & 0x80000007u) | 0x00800000u;  // 2^-126 and a few ulps
    if (kind == 2) bits &= 0x807FFFFFu;                        // denormal
    if (kind == 3) bits = (bits & 0x80FFFFFFu) | 0x00800000u;  // up to 2^-124
    return std::bit_cast<float>(bits);
  };
  int flushed = 0, kept = 0;
  for (int i = 0; i < 400000; ++i) {
    const float a = Bf16ToFloat(static_cast<uint16_t>(
        i % 2 == 0 ? random.Bits() : (random.Bits() & 0x80FFu) | (0x1E00u + i % 512)));
    const float b = Bf16ToFloat(static_cast<uint16_t>(
        i % 2 == 0 ? random.Bits() : (random.Bits() & 0x80FFu) | (0x1E80u + i % 256)));
    const float c = around(i / 2 % 4);
    const float want = HardwareFma(a, b, c), got = FusedFlushed(a, b, c);
    if (!SameFloat(want, got)) {
      INFO(std::hexfloat << a << " * " << b << " + " << c);
      REQUIRE(std::bit_cast<uint32_t>(got) == std::bit_cast<uint32_t>(want));
    }
    if (want != 0 && std::fabs(want) < 0x1p-124f) ++kept;
    if (want == 0 && a * b != 0 && c != 0) ++flushed;
  }
  CHECK(kept > 1000);
  CHECK(flushed > 100);
  // 2^-126 minus a quarter and a half of the ulp below it, and minus more.
  for (const float sign : {1.0f, -1.0f}) {
    for (const float part : {1.0f, 2.0f, 3.0f, 4.0f, 6.0f, 8.0f, 4096.0f}) {  // times 2^-152
      const float a = 0x1p-76f, b = -sign * part * 0x1p-76f, c = sign * 0x1p-126f;
      CHECK(SameFloat(FusedFlushed(a, b, c), HardwareFma(a, b, c)));
    }
  }
}

TEST_CASE("what the processor would refuse is not a configuration, and shapes must fit") {
  TileConfig good;
  good.Set(0, 7, 64);
  good.Set(1, 7, 32);
  good.Set(2, 8, 64);
  CHECK(ScalarTiles::Valid(good));
  CHECK(ScalarTiles::Fits(good, 0, 1, 2));
  CHECK(!ScalarTiles::Fits(good, 0, 0, 2));  // one tile twice
  CHECK(!ScalarTiles::Fits(good, 0, 1, 3));  // not configured
  CHECK(!ScalarTiles::Fits(good, 1, 0, 2));  // C narrower than B
  TileConfig deeper = good;
  deeper.Set(2, 7, 64);
  CHECK(!ScalarTiles::Fits(deeper, 0, 1, 2));  // A has 8 dwords a row
  TileConfig lower = good;
  lower.Set(0, 6, 64);
  CHECK(!ScalarTiles::Fits(lower, 0, 1, 2));  // C and A differ in rows
  std::vector<TileConfig> bad(7, good);
  bad[0].palette = 2;
  bad[1].start_row = 1;
  bad[2].reserved[3] = 1;
  bad[3].rows[7] = 17;
  bad[4].colsb[2] = 65;
  bad[5].rows[8] = 1;
  bad[6].colsb[4] = 64;  // without rows
  for (const TileConfig& config : bad) CHECK(!ScalarTiles::Valid(config));
}

}  // namespace modu::kernels::cpu
