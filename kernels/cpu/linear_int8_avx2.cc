#include "kernels/cpu/int8_join-inl.h"
#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAvx2() { return avx2::kInt8Kernels<avx2::PlainJoin>; }
}  // namespace modu::kernels::cpu
