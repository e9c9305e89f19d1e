// The tile kernels over the scalar twin of AMX's tiles (tile_twin.cc), so that their logic runs on
// every machine, and single tile products on the twin and, where the machine has them, on AMX's
// registers (tile_products_amx.cc).
#pragma once
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu {

const Bf16TileKernels& Bf16TileKernelsTwin();

/// Loads tiles 1 (A), 2 (B) and 0 (C) of `config` from memory of 64 bytes a row, multiplies, stores
/// C over `c`, and, read whole, the 16 rows of a full-sized tile into which C was loaded back.
struct TileProductArgs {
  TileConfig config;
  const std::byte* a;
  const std::byte* b;
  std::byte* c;
};
void RunTileProductAmx(const TileProductArgs& args);

template <typename Tiles>
void RunTileProduct(Tiles& tiles, const TileProductArgs& args) {
  tiles.Configure(args.config);
  tiles.template Load<1>(args.a, kTileRowBytes);
  tiles.template Load<2>(args.b, kTileRowBytes);
  tiles.template Load<0>(args.c, kTileRowBytes);
  tiles.template DotBf16<0, 1, 2>();
  tiles.template Store<0>(args.c, kTileRowBytes);
  tiles.Release();
}

}  // namespace modu::kernels::cpu
