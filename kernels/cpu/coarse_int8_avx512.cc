#include "kernels/cpu/coarse_int8-inl.h"

namespace modu::kernels::cpu {
CoarseStripFn CoarseStripAvx512() { return avx512::CoarseStrip; }
}  // namespace modu::kernels::cpu
