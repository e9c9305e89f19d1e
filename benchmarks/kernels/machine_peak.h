// What the machine can do at best: the floors that kernel times are shown against. One core each.
// Compiled for AVX2: call only where it exists.
#pragma once
#include <cstddef>

namespace modu::benchmarks {

/// Reads `bytes` at `data` once, in rising order.
void ReadOnce(const std::byte* data, size_t bytes);
/// int8 operations (a multiplication and an addition each) a second of vpmaddubsw + vpaddw on
/// registers. About 50 ms.
double Int8OpsAvx2();
/// f32 operations a second of vfmadd on registers. About 50 ms.
double FloatOpsAvx2();

}  // namespace modu::benchmarks
