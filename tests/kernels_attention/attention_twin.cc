#include "tests/kernels_attention/attention_twin.h"

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsTwin() { return avx2::TileAttention<ScalarTiles>(kAttentionAvx2); }
AttentionKernels AttentionKernelsDotTwin() {
  return avx2::TileAttention<ScalarDotTiles>(kAttentionAvx2);
}
}  // namespace modu::kernels::cpu
