#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/linear_bf16_tiles-inl.h"

namespace modu::kernels::cpu {
FloatStripFn Bf16StripAmx() { return amx::Bf16TileStrip<amx::AmxTiles>; }
}  // namespace modu::kernels::cpu
