#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"

namespace modu::benchmarks {

#define TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define SUMS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
#define DOT(sum) "vdpbf16ps %%zmm14, %%zmm15, %%zmm" #sum ";"

double Bf16OpsAvx512() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] { asm volatile(TWELVE(DOT) : : : SUMS); });
  return rounds * 12.0 * 64 / seconds;
}

}  // namespace modu::benchmarks
