#include "kernels/cpu/amx_tiles-inl.h"
#include "tests/kernels_linear/rough_math-inl.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
void RunTileProductAmx(const TileProductArgs& args) {
  amx::AmxTiles tiles;
  RunTileProduct(tiles, args);
}
RoughMath RoughMathAmx() { return amx::kRoughMath; }
}  // namespace modu::kernels::cpu
