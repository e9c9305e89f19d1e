// The AVX-512 kernels over emulated intrinsics (attention_emulated.cc), where SIMDe is installed.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/row_kernels.h"

namespace modu::kernels::cpu {
extern const AttentionKernels kAttentionEmulated;
extern const RowKernels kRowKernelsEmulated;
AttentionFn Bf16AttentionEmulated();     // tiles: the scalar twin
AttentionFn Bf16DotAttentionEmulated();  // DotTiles over emulated AVX512-BF16
}  // namespace modu::kernels::cpu
