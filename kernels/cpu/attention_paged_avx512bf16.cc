#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/dot_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAvx512Bf16() {
  return {kAttentionAvx512.run_f32, avx512bf16::RunBf16Tiles<avx512bf16::DotTiles>,
          kAttentionAvx512.merge};
}
}  // namespace modu::kernels::cpu
