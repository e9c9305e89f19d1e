#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAvx512() { return avx512::kInt8Kernels; }
}  // namespace modu::kernels::cpu
