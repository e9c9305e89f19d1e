#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/rows-inl.h"

namespace modu::kernels::cpu {

const AttentionKernels kAttentionAvx2 = avx2::FloatAttention();
const RowKernels kRowKernelsAvx2 = avx2::ThisRowKernels();

}  // namespace modu::kernels::cpu
