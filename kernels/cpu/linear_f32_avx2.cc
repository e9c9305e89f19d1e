#include "kernels/cpu/linear_f32-inl.h"

namespace modu::kernels::cpu {
const FloatKernels& FloatKernelsAvx2() { return avx2::kFloatKernels; }
}  // namespace modu::kernels::cpu
