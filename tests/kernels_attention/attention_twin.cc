#include "tests/kernels_attention/attention_twin.h"

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu {
AttentionFn Bf16AttentionTwin() { return avx2::RunBf16Tiles<ScalarTiles>; }
}  // namespace modu::kernels::cpu
