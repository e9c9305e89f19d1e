// Groups of floats to bf16: nearest even, denormals as zeros (tile products take them for zeros).
// With AVX512-BF16, and in plain code for twins and emulation; the same bits. Included by
// op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(__AVX512BF16__)

MODU_INLINE Int RoundToBf16(Float first, Float second) {
  return reinterpret_cast<Int>(_mm512_cvtne2ps_pbh(second, first));
}
/// 16 floats, and 16 that follow.
MODU_INLINE void StoreBf16(std::byte* p, const Group& first, const Group& second) {
  _mm512_storeu_si512(p, RoundToBf16(first.part[0], second.part[0]));
}
/// even[0], odd[0], even[1], ...
MODU_INLINE void StorePairs(std::byte* p, const Group& even, const Group& odd) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const Int both = RoundToBf16(even.part[0], odd.part[0]);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both));
}

#else

MODU_INLINE uint16_t ToTileBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t size = bits & 0x7FFFFFFFu;
  if (size < 0x00800000u) return static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (size > 0x7F800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}
MODU_INLINE void StoreBf16(std::byte* p, const Group& first, const Group& second) {
  alignas(64) float x[32];
  StoreGroup(x, first);
  StoreGroup(x + 16, second);
  for (int i = 0; i < 32; ++i) {
    const uint16_t bits = ToTileBf16(x[i]);
    __builtin_memcpy(p + 2 * i, &bits, sizeof(bits));
  }
}
MODU_INLINE void StorePairs(std::byte* p, const Group& even, const Group& odd) {
  alignas(64) float x[32];
  StoreGroup(x, even);
  StoreGroup(x + 16, odd);
  for (int i = 0; i < 32; ++i) {
    const uint16_t bits = ToTileBf16(x[i % 2 * 16 + i / 2]);
    __builtin_memcpy(p + 2 * i, &bits, sizeof(bits));
  }
}

#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
