#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"

namespace modu::benchmarks {

#define DOT(sum) "vdpbf16ps %%zmm14, %%zmm15, %%zmm" #sum ";"

double Bf16OpsAvx512() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] { asm volatile(TWELVE(DOT) : : : SUMS); });
  return rounds * 12.0 * 64 / seconds;
}

}  // namespace modu::benchmarks
