#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/linear_bf16_tiles-inl.h"

namespace modu::kernels::cpu {
const Bf16TileKernels& Bf16TileKernelsAmx() { return amx::kBf16TileKernels<amx::AmxTiles>; }
}  // namespace modu::kernels::cpu
