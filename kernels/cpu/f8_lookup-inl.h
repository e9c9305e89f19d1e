// E4M3 to bf16, which holds all of its values, by looking bytes up: AVX512-VBMI, which is asked for
// from level avx512 on (isa.cc). Included by op_dtype_isa files only.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// A byte of the bf16 of each magnitude of E4M3 (OCP 8-bit floating point, 1.0), all exact; the
/// code of NaN would read as 480 and is refused when a file is loaded.
struct F8Table {
  alignas(64) uint8_t low[128], high[128];
};
constexpr F8Table MakeF8Table() {
  F8Table table = {};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    float value = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) / 512;  // 2^-9
    for (int e = 1; e < exponent; ++e) value *= 2;
    const auto bits = __builtin_bit_cast(uint32_t, value);
    table.low[code] = static_cast<uint8_t>(bits >> 16);
    table.high[code] = static_cast<uint8_t>(bits >> 24);
  }
  return table;
}
constexpr F8Table kF8Table = MakeF8Table();

/// 64 codes take the port of shuffles six times (a look-up in 128 bytes twice, uops.info); by
/// arithmetic, through binary16 and f32, they take 20 instructions on two ports.
class F8Lookup {
 public:
  /// The bf16 of 64 codes: of the lower 8 in each 16 to `first`, of the others to `second`, 64
  /// bytes each.
  MODU_INLINE void Store(Int codes, std::byte* first, std::byte* second) const {
    const Int low = _mm512_permutex2var_epi8(low_[0], codes, low_[1]);  // by the 7 lowest bits
    const Int sign = _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
    const Int high = _mm512_or_si512(_mm512_permutex2var_epi8(high_[0], codes, high_[1]), sign);
    _mm512_storeu_si512(first, _mm512_unpacklo_epi8(low, high));
    _mm512_storeu_si512(second, _mm512_unpackhi_epi8(low, high));
  }

 private:
  const Int low_[2] = {_mm512_load_si512(kF8Table.low), _mm512_load_si512(kF8Table.low + 64)};
  const Int high_[2] = {_mm512_load_si512(kF8Table.high), _mm512_load_si512(kF8Table.high + 64)};
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
