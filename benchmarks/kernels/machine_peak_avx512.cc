#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"

namespace modu::benchmarks {

#define DOT(sum) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #sum ";"
#define FMA(sum) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #sum ";"

double Int8OpsAvx512() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] { asm volatile(TWELVE(DOT) : : : SUMS); });
  return rounds * 12.0 * 128 / seconds;
}

double FloatOpsAvx512() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] { asm volatile(TWELVE(FMA) : : : SUMS); });
  return rounds * 12.0 * 32 / seconds;
}

}  // namespace modu::benchmarks
