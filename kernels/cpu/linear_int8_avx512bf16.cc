#include "kernels/cpu/int8_pairs_join-inl.h"
#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAvx512Bf16() {
  return avx512bf16::kInt8Kernels<avx512bf16::PairsJoin>;
}
}  // namespace modu::kernels::cpu
