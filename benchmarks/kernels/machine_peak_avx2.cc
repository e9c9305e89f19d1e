#include <immintrin.h>

#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/peak_timing-inl.h"

namespace modu::benchmarks {

void ReadOnce(const std::byte* data, size_t bytes) {
  __m256i sum[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    for (size_t j = 0; j < 4; ++j) {
      sum[j] = _mm256_xor_si256(
          sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i + 32 * j)));
    }
  }
  asm volatile("" : : "x"(sum[0]), "x"(sum[1]), "x"(sum[2]), "x"(sum[3]));
}

// In assembly: a compiler keeps arrays of sums in memory, or sees that all products are equal.
#define PRODUCT(to, sum) \
  "vpmaddubsw %%ymm8, %%ymm9, %%ymm" #to "; vpaddw %%ymm" #to ", %%ymm" #sum ", %%ymm" #sum ";"
#define FMA(sum) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #sum ";"

double Int8OpsAvx2() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] {
    asm volatile(PRODUCT(0, 4) PRODUCT(1, 5) PRODUCT(2, 6) PRODUCT(3, 7) PRODUCT(0, 10)
                     PRODUCT(1, 11) PRODUCT(2, 12) PRODUCT(3, 13)
                 :
                 :
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm10", "xmm11",
                   "xmm12", "xmm13");
  });
  return rounds * 8.0 * 64 / seconds;
}

double FloatOpsAvx2() {
  const int rounds = 100000;
  const double seconds = BestSeconds(rounds, [] {
    asm volatile(FMA(0) FMA(1) FMA(2) FMA(3) FMA(4) FMA(5) FMA(6) FMA(7) FMA(8) FMA(9)
                 :
                 :
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9");
  });
  return rounds * 10.0 * 16 / seconds;
}

}  // namespace modu::benchmarks
