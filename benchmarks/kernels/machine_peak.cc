#include "benchmarks/kernels/machine_peak.h"

namespace modu::benchmarks {

using kernels::cpu::Isa;

Peak MeasurePeak(Isa isa, Arithmetic arithmetic) {
  const bool amx = isa >= Isa::kAmx, avx512 = isa >= Isa::kAvx512;
  if (arithmetic == Arithmetic::kInt8) {
    if (avx512) return {"vpdpbusd zmm", Int8OpsAvx512()};
    return {"vpmaddubsw + vpaddw ymm", Int8OpsAvx2()};
  }
  if (amx && arithmetic == Arithmetic::kBf16) return {"tdpbf16ps", Bf16OpsAmx()};
  if (isa >= Isa::kAvx512Bf16 && arithmetic == Arithmetic::kBf16) {
    return {"vdpbf16ps zmm", Bf16OpsAvx512()};
  }
  if (avx512) return {"vfmadd zmm", FloatOpsAvx512()};
  return {"vfmadd ymm", FloatOpsAvx2()};
}

}  // namespace modu::benchmarks
