#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAvx2() { return avx2::kInt8Kernels; }
}  // namespace modu::kernels::cpu
