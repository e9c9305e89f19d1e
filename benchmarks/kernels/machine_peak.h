// What the machine can do at best: the floors that kernel times are shown against. One core each.
// Each function is compiled for the instruction set it is named after: call only where that
// exists, for AMX after the system has been asked for tiles (kernels/cpu/isa.h).
#pragma once
#include <cstddef>

#include "kernels/cpu/isa.h"

namespace modu::benchmarks {

/// Reads `bytes` at `data` once, in rising order. AVX2.
void ReadOnce(const std::byte* data, size_t bytes);

/// Operations a second on registers, a multiplication and an addition counting as two; about 50 ms
/// each. int8 by vpmaddubsw + vpaddw and vpdpbusd; f32 by vfmadd; bf16 by vdpbf16ps and
/// tdpbf16ps.
double Int8OpsAvx2();
double FloatOpsAvx2();
double Int8OpsAvx512();
double FloatOpsAvx512();
double Bf16OpsAvx512();
double Bf16OpsAmx();

/// What AMX takes in this moment, a mean of 500 in ns of wall time; 0.1 ms to find out. Of numbers
/// as they come in models: zeros are multiplied at a higher clock.
struct TileTimes {
  double products;    // four tdpbf16ps on registers
  double with_loads;  // the same, each with a load from the first cache, as in a matrix product
};
TileTimes TimeTiles();

/// The peak of what a level's kernels compute with.
struct Peak {
  const char* instruction;
  double operations;  // a second, one core
};
enum class Arithmetic { kFloat, kBf16, kInt8 };
/// bf16 is float arithmetic below level kAvx512Bf16. Needs AVX2 at least.
Peak MeasurePeak(kernels::cpu::Isa isa, Arithmetic arithmetic);

}  // namespace modu::benchmarks
