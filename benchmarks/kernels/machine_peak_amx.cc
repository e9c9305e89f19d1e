#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"
#include "kernels/cpu/tile_config.h"

namespace modu::benchmarks {
namespace {

using kernels::cpu::kTileMaxRows;

/// Whole tiles of zeros, until Release.
void Configure() {
  kernels::cpu::TileConfig config;
  for (int tile = 0; tile < kernels::cpu::kTileRegisters; ++tile) {
    config.Set(tile, kTileMaxRows, kernels::cpu::kTileRowBytes);
  }
  asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
}
void Release() { asm volatile("tilerelease" : : : "memory"); }

/// Operations a second of a body of four products, `depth` deep.
template <typename Body>
double TileOps(int depth, const Body& body) {
  constexpr int kRounds = 20000;
  Configure();
  const double seconds = BestSeconds(kRounds, body);
  Release();
  return kRounds * 4.0 * 2 * kTileMaxRows * kTileMaxRows * depth / seconds;
}

constexpr int kTileFloats = kTileMaxRows * kTileMaxRows;

/// Four tiles of bf16 from 1/2 to 2 of either sign.
struct Tiles {
  Tiles() {
    uint32_t state = 1;
    for (uint32_t& word : words) {
      state = state * 1664525 + 1013904223;
      word = (state & 0x80FF80FF) | 0x3F003F00;
    }
  }
  alignas(64) uint32_t words[4 * kTileFloats];
};

/// ns of a run, the mean of many.
template <typename Body>
double WallNs(const Body& body) {
  constexpr int kRounds = 500;
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  for (int i = 0; i < kRounds; ++i) body();
  return (now() - start) / kRounds;
}

}  // namespace

// Two tiles of each side and four sums, as a kernel would hold them.
#define FOUR(op)                                                                               \
  op " %%tmm6, %%tmm4, %%tmm0;" op " %%tmm7, %%tmm4, %%tmm1;" op " %%tmm6, %%tmm5, %%tmm2;" op \
     " %%tmm7, %%tmm5, %%tmm3;"

double Bf16OpsAmx() {
  return TileOps(32, [] { asm volatile(FOUR("tdpbf16ps") : :); });
}

#define LOAD(from, tile) "tileloadd (%" #from ",%4,1), %%tmm" #tile ";"
#define PRODUCT(b, a, c) "tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ";"

TileTimes TimeTiles() {
  static const Tiles tiles;
  const uint32_t* const a = tiles.words;
  const uint32_t* const b = tiles.words + 2 * kTileFloats;
  TileTimes times;
  Configure();
  asm volatile(LOAD(0, 4) LOAD(1, 5) LOAD(2, 6) LOAD(3, 7)
               :
               : "r"(a), "r"(a + kTileFloats), "r"(b), "r"(b + kTileFloats),
                 "r"(int64_t{kernels::cpu::kTileRowBytes})
               : "memory");
  times.products = WallNs([] { asm volatile(FOUR("tdpbf16ps") : :); });
  times.with_loads = WallNs([&] {
    asm volatile(LOAD(0, 4) LOAD(2, 6) PRODUCT(6, 4, 0) LOAD(1, 5) PRODUCT(6, 5, 1) LOAD(3, 7)
                     PRODUCT(7, 4, 2) PRODUCT(7, 5, 3)
                 :
                 : "r"(a), "r"(a + kTileFloats), "r"(b), "r"(b + kTileFloats),
                   "r"(int64_t{kernels::cpu::kTileRowBytes})
                 : "memory");
  });
  Release();
  return times;
}

}  // namespace modu::benchmarks
