#include "tests/kernels_linear/tile_twin.h"

#include "kernels/cpu/linear_bf16_tiles-inl.h"
#include "kernels/cpu/linear_int8_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8TileKernelsTwin() { return avx2::kTileProductKernels<ScalarTiles>; }
const Int8Kernels& Int8TilesOrVectorsTwin() {
  return avx2::kTilesOrVectors<ScalarTiles, Int8KernelsAvx2>;
}
const Bf16TileKernels& Bf16TileKernelsTwin() { return avx2::kBf16TileKernels<ScalarTiles>; }
}  // namespace modu::kernels::cpu
