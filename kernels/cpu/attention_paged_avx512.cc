#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/rows-inl.h"

namespace modu::kernels::cpu {

const AttentionKernels kAttentionAvx512 = {avx512::RunF32, avx512::RunBf16, avx512::Merge};
const RowKernels kRowKernelsAvx512 = {avx512::RmsNorm, avx512::QkvToken<false>,
                                      avx512::QkvToken<true>};

}  // namespace modu::kernels::cpu
