#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionFn Bf16AttentionAmx() { return amx::RunBf16Tiles<amx::AmxTiles>; }
}  // namespace modu::kernels::cpu
