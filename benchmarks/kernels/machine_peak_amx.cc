#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"
#include "kernels/cpu/tile_config.h"

namespace modu::benchmarks {
namespace {

/// Operations a second of a body of four products, of whole tiles, `depth` deep.
template <typename Body>
double TileOps(int depth, const Body& body) {
  constexpr int kRounds = 20000;
  using kernels::cpu::kTileMaxRows;
  kernels::cpu::TileConfig config;
  for (int tile = 0; tile < kernels::cpu::kTileRegisters; ++tile) {
    config.Set(tile, kTileMaxRows, kernels::cpu::kTileRowBytes);
  }
  asm volatile("ldtilecfg %0" : : "m"(config) : "memory");  // zeroes the tiles
  const double seconds = BestSeconds(kRounds, body);
  asm volatile("tilerelease" : : : "memory");
  return kRounds * 4.0 * 2 * kTileMaxRows * kTileMaxRows * depth / seconds;
}

}  // namespace

// Two tiles of each side and four sums, as a kernel would hold them.
#define FOUR(op)                                                                               \
  op " %%tmm6, %%tmm4, %%tmm0;" op " %%tmm7, %%tmm4, %%tmm1;" op " %%tmm6, %%tmm5, %%tmm2;" op \
     " %%tmm7, %%tmm5, %%tmm3;"

double Bf16OpsAmx() {
  return TileOps(32, [] { asm volatile(FOUR("tdpbf16ps") : :); });
}

}  // namespace modu::benchmarks
