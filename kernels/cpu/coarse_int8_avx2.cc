#include "kernels/cpu/coarse_int8-inl.h"

namespace modu::kernels::cpu {
CoarseStripFn CoarseStripAvx2() { return avx2::CoarseStrip; }
}  // namespace modu::kernels::cpu
