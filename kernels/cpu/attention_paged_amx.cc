#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAmx() {
  return {kAttentionAvx512.run_f32, amx::RunBf16Tiles<amx::AmxTiles>, kAttentionAvx512.merge};
}
}  // namespace modu::kernels::cpu
