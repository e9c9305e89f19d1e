// The tile kernels over the scalar twin of AMX's tiles (tile_twin.cc), so that their logic runs on
// every machine, and single tile products on the twin and, where the machine has them, on AMX's
// registers (tile_products_amx.cc).
#pragma once
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu {

const Int8Kernels& Int8TileKernelsTwin();     // tiles for any number of rows
const Int8Kernels& Int8TilesOrVectorsTwin();  // as Int8KernelsAmx: few rows by vectors (AVX2)
const Bf16TileKernels& Bf16TileKernelsTwin();

enum class TileProduct : uint8_t { kSignedSigned, kSignedUnsigned, kBf16 };

/// Loads tiles 1 (A), 2 (B) and 0 (C) of `config` from memory of 64 bytes a row, multiplies, stores
/// C over `c`, and, read whole, the 16 rows of a full-sized tile into which C was loaded back.
struct TileProductArgs {
  TileProduct product;
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
  switch (args.product) {
    case TileProduct::kSignedSigned:
      tiles.template DotSignedSigned<0, 1, 2>();
      break;
    case TileProduct::kSignedUnsigned:
      tiles.template DotSignedUnsigned<0, 1, 2>();
      break;
    case TileProduct::kBf16:
      tiles.template DotBf16<0, 1, 2>();
      break;
  }
  tiles.template Store<0>(args.c, kTileRowBytes);
  tiles.Release();
}

}  // namespace modu::kernels::cpu
