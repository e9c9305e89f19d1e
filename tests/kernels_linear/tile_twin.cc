#include "tests/kernels_linear/tile_twin.h"

#include "kernels/cpu/linear_bf16_tiles-inl.h"
#include "kernels/cpu/linear_int8_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8TileKernelsTwin() { return avx2::kTileProductKernels<ScalarTiles>; }
const Int8Kernels& Int8TilesOrVectorsTwin() {
  return avx2::kTilesOrVectors<ScalarTiles, Int8KernelsAvx2>;
}
FloatStripFn Bf16StripTwin() { return avx2::Bf16TileStrip<ScalarTiles>; }
}  // namespace modu::kernels::cpu
