// DotPairs (kernels/cpu/dot_pairs-inl.h) over emulated AVX-512: SIMDe's adds in another order and
// keeps denormals.
#pragma once
#include "kernels/cpu/scalar_tiles.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

Float DotPairs(Float sum, Int a, Int b) {
  alignas(64) float c[16];
  alignas(64) uint32_t x[16], y[16];
  _mm512_store_ps(c, sum);
  _mm512_store_si512(x, a);
  _mm512_store_si512(y, b);
  for (int i = 0; i < 16; ++i) c[i] = DotFlushed(x[i], y[i], c[i]);
  return _mm512_load_ps(c);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
