#include "kernels/cpu/amx_tiles-inl.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
void RunTileProductAmx(const TileProductArgs& args) {
  amx::AmxTiles tiles;
  RunTileProduct(tiles, args);
}
}  // namespace modu::kernels::cpu
