// The dot product of AVX512-BF16: of a pair in each lane (Intel SDM volume 2, VDPBF16PS). The odd
// products are added first, then the even ones, each rounded once; denormals in and out are zeros,
// MXCSR does not count. Zen 4 and Sapphire Rapids agree. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// sum + a x b.
#if defined(MODU_VECTOR_EMULATED)
Float DotPairs(Float sum, Int a, Int b);  // the includer's
#else
MODU_INLINE Float DotPairs(Float sum, Int a, Int b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
#endif

/// The pair at p in all lanes.
MODU_INLINE Int BroadcastPair(const std::byte* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return _mm512_set1_epi32(pair);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
