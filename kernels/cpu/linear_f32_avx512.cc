#include "kernels/cpu/linear_f32-inl.h"

namespace modu::kernels::cpu {
const FloatKernels& FloatKernelsAvx512() { return avx512::kFloatKernels; }
}  // namespace modu::kernels::cpu
