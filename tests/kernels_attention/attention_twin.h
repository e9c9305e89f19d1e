// Attention on tiles over the scalar twin of AMX's tiles, so that its logic runs on every machine.
#pragma once
#include "kernels/cpu/attention_kernel.h"

namespace modu::kernels::cpu {
AttentionKernels AttentionKernelsTwin();  // the rest as kAttentionAvx2
}  // namespace modu::kernels::cpu
