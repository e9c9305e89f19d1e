#include "kernels/cpu/linear_int8_winograd-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsAvx512() { return avx512::kInt8Kernels; }
const Int8Kernels& Int8WinogradAvx512() {
  return avx512::kWinogradKernels<avx512::kFewestWinogradRows>;
}
const Int8Kernels& Int8WinogradAnyRowsAvx512() { return avx512::kWinogradKernels<1>; }
}  // namespace modu::kernels::cpu
