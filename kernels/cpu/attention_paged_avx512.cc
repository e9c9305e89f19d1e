#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/rows-inl.h"

namespace modu::kernels::cpu {

const AttentionKernels kAttentionAvx512 = avx512::FloatAttention();
const RowKernels kRowKernelsAvx512 = avx512::ThisRowKernels();

}  // namespace modu::kernels::cpu
