// Attention on tiles over the scalar twins of AMX's tiles and of those on AVX512-BF16, so that its
// logic runs on every machine.
#pragma once
#include "kernels/cpu/attention_kernel.h"

namespace modu::kernels::cpu {
// The rest as kAttentionAvx2.
AttentionKernels AttentionKernelsTwin();
AttentionKernels AttentionKernelsDotTwin();
}  // namespace modu::kernels::cpu
