#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/linear_int8_tiles-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAmx() {
  return amx::kTilesOrVectors<amx::AmxTiles, Int8KernelsAvx512>;
}
const Int8Kernels& Int8TileKernelsAmx() { return amx::kTileProductKernels<amx::AmxTiles>; }
}  // namespace modu::kernels::cpu
