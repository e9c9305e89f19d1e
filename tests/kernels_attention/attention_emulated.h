// The AVX-512 kernels over emulated intrinsics (attention_emulated.cc), where SIMDe is installed.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/row_kernels.h"

namespace modu::kernels::cpu {
extern const AttentionKernels kAttentionEmulated;
extern const RowKernels kRowKernelsEmulated;
AttentionKernels TileAttentionEmulated();  // tiles: the scalar twin
AttentionKernels DotAttentionEmulated();   // DotTiles over emulated AVX512-BF16
AttentionKernels PlainValuesEmulated();    // of int8 KV as above, but all products of values
}  // namespace modu::kernels::cpu
