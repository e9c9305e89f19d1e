#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/rows-inl.h"

namespace modu::kernels::cpu {

const AttentionKernels kAttentionAvx2 = {avx2::RunF32, avx2::RunBf16, avx2::Merge};
const RowKernels kRowKernelsAvx2 = {avx2::RmsNorm, avx2::QkvToken<false>, avx2::QkvToken<true>};

}  // namespace modu::kernels::cpu
