#include "tests/kernels_attention/attention_twin.h"

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsTwin() {
  return {kAttentionAvx2.run_f32, avx2::RunBf16Tiles<ScalarTiles>, kAttentionAvx2.merge};
}
AttentionKernels AttentionKernelsDotTwin() {
  return {kAttentionAvx2.run_f32, avx2::RunBf16Tiles<ScalarDotTiles>, kAttentionAvx2.merge};
}
}  // namespace modu::kernels::cpu
