#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAmx() {
  AttentionKernels kernels = amx::TileAttention<amx::AmxTiles>(kAttentionAvx512);
  kernels.run_int8_as_it_lies = kAttentionAvx512.run_int8;
  return kernels;
}
}  // namespace modu::kernels::cpu
