#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAmx() {
  return amx::TileAttention<amx::AmxTiles>(kAttentionAvx512);
}
}  // namespace modu::kernels::cpu
