#include "kernels/cpu/attention_int8-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/dot_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAvx512Bf16() {
  AttentionKernels kernels = avx512bf16::TileAttention<avx512bf16::DotTiles>(kAttentionAvx512);
  kernels.run_int8 = avx512bf16::RunInt8;
  kernels.writes_int8_out = false;
  return kernels;
}
}  // namespace modu::kernels::cpu
