#include "tests/kernels_linear/tile_twin.h"

#include "kernels/cpu/linear_bf16_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"
#include "tests/kernels_linear/rough_math-inl.h"

namespace modu::kernels::cpu {
const Bf16TileKernels& Bf16TileKernelsTwin() { return avx2::kBf16TileKernels<ScalarTiles>; }
RoughMath RoughMathTwin() { return avx2::kRoughMath; }
}  // namespace modu::kernels::cpu
