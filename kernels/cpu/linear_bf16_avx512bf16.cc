#include "kernels/cpu/linear_bf16_dots-inl.h"

namespace modu::kernels::cpu {
FloatStripFn Bf16DotsAvx512Bf16() { return avx512bf16::Bf16DotsStrip; }
}  // namespace modu::kernels::cpu
