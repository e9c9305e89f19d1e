#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsAmx() {
  AttentionKernels kernels = amx::TileAttention<amx::AmxTiles>(kAttentionAvx512);
  kernels.run_int8_as_it_lies = kAttentionAvx512.run_int8;
  // Writing KV out took 8 % of a unit of 384 rows; a prompt of 1,500 took 1.05 of its time with 96,
  // 0.99 with 768.
  kernels.written_out_rows = 768;
  return kernels;
}
}  // namespace modu::kernels::cpu
