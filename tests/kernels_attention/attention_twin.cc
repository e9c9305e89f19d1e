#include "tests/kernels_attention/attention_twin.h"

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsTwin() {
  AttentionKernels kernels = avx2::TileAttention<ScalarTiles>(kAttentionAvx2);
  kernels.run_int8_as_it_lies = kAttentionAvx2.run_int8;
  kernels.written_out_rows = 768;
  return kernels;
}
AttentionKernels AttentionKernelsDotTwin() {
  return avx2::TileAttention<ScalarDotTiles>(kAttentionAvx2);
}
}  // namespace modu::kernels::cpu
