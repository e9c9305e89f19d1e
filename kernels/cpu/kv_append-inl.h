// One token's K and V of a head into its place in the paged cache (kv_cache.h), in each of the
// cache's types. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/kv_scale-inl.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Nearest even; NaN stays NaN (made quiet).
MODU_INLINE uint16_t ToBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

constexpr int kChunk = 64;  // dims converted at a time

/// Rounds n values and returns the largest magnitude's bits, from 0x7F80 on no finite number.
MODU_INLINE uint16_t LargestBf16(const float* x, int n, uint16_t* bits) {
  uint16_t largest = 0;
  for (int d = 0; d < n; ++d) {
    bits[d] = ToBf16(x[d]);
    const auto magnitude = static_cast<uint16_t>(bits[d] & 0x7FFF);
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

/// A token whose K or V is not finite becomes NaN in its K's first two dims, which only rows that
/// see the token read (attention_spoilt-inl.h looks there), and such a V 0: tile products multiply
/// what a row does not see by 0, and 0 x NaN is NaN.
MODU_INLINE void AppendBf16(const float* k, const float* v, const QkvRow& r, std::byte* head) {
  std::byte* k_at = head + r.offset / 16 * r.half_bytes + r.offset % 16 * 4;
  std::byte* v_at = head + r.v_offset + r.offset / 2 * 64 + r.offset % 2 * 2;
  bool poisoned = false;
  for (int base = 0; base < r.head_dim; base += kChunk) {
    const int n = r.head_dim - base < kChunk ? r.head_dim - base : kChunk;
    uint16_t bits[kChunk];
    poisoned = LargestBf16(k + base, n, bits) >= 0x7F80 || poisoned;
    for (int d = 0; d < n; d += 2) __builtin_memcpy(k_at + (base + d) / 2 * 64, bits + d, 4);
    if (LargestBf16(v + base, n, bits) >= 0x7F80) {
      for (int d = 0; d < n; ++d) bits[d] = 0;
      poisoned = true;
    }
    for (int d = 0; d < n; ++d) {
      const int dim = base + d;
      __builtin_memcpy(v_at + dim / 16 * 1024 + dim % 16 * 4, bits + d, 2);
    }
  }
  if (!poisoned) return;
  const uint32_t nans = 0x7FC07FC0u;
  __builtin_memcpy(k_at, &nans, sizeof(nans));
}

MODU_INLINE void AppendF32(const float* k, const float* v, const QkvRow& r, std::byte* head) {
  auto* k_at = reinterpret_cast<float*>(head + r.offset / 16 * r.half_bytes) + r.offset % 16;
  auto* v_at = reinterpret_cast<float*>(head + r.v_offset) + r.offset * 16;
  for (int d = 0; d < r.head_dim; ++d) k_at[d * 16] = k[d];
  for (int d = 0; d < r.head_dim; ++d) v_at[d / 16 * 512 + d % 16] = v[d];
}

/// The nearest codes of x, |x| <= kLargest (but for its last bit).
struct Int8Codes {
  static constexpr float kLargest = kLargestInt8Code;
  static MODU_INLINE uint8_t Of(float x) {
    return static_cast<uint8_t>(static_cast<int>(__builtin_rintf(x)) + 128);
  }
};
struct F8Codes {
  static constexpr float kLargest = kLargestF8Code;
  /// FloatToF8E4M3 (float_formats.h) of what is finite, without branches: loops of it are vectors.
  static MODU_INLINE uint8_t Of(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    const uint32_t normal = (magnitude + 0x7FFFFu + (magnitude >> 20 & 1u) - (120u << 23)) >> 20;
    // Below 2^-6 codes count multiples of 2^-9, what a float at 2^14 counts in its last bit.
    const float shifted = __builtin_fabsf(x) + 0x1p14f;
    uint32_t small;
    __builtin_memcpy(&small, &shifted, sizeof(small));
    const uint32_t code = magnitude < 0x3C800000u ? small - 0x46800000u : normal;
    return static_cast<uint8_t>((bits >> 24 & 0x80u) | (code > 0x7Eu ? 0x7Eu : code));
  }
};

/// Codes of x[0, n), n at most kChunk.
template <class Codes>
MODU_INLINE void ToCodes(const float* x, int n, const CodeScale& scale, bool finite,
                         uint8_t (&codes)[kChunk]) {
  alignas(64) float scaled[kChunk] = {};
  int d = 0;
  if (finite) {
    for (; d + kLanes <= n; d += kLanes) Store(scaled + d, Mul(Load(x + d), Set(scale.inverse)));
    for (; d < n; ++d) scaled[d] = x[d] * scale.inverse;
  }
  for (d = 0; d < kChunk; ++d) codes[d] = Codes::Of(scaled[d]);
}

/// n codes, up to 16, to every fourth byte of a line from `byte` on; the others may be written by
/// other workers meanwhile.
MODU_INLINE void StoreEveryFourth(std::byte* line, int byte, const uint8_t* codes, int n) {
#if defined(MODU_VECTOR_AVX512)
  const Int dwords = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const uint64_t bytes = 0x1111111111111111u >> (64 - 4 * n) << byte;
  _mm512_mask_storeu_epi8(line, bytes, _mm512_sll_epi32(dwords, _mm_cvtsi32_si128(8 * byte)));
#else
  for (int d = 0; d < n; ++d) line[4 * d + byte] = static_cast<std::byte>(codes[d]);
#endif
}

template <class Codes>
MODU_INLINE void AppendCodes(const float* k, const float* v, const QkvRow& r, std::byte* head) {
  CodeScale k_scale = ScaleOf(k, r.head_dim, Codes::kLargest);
  CodeScale v_scale = ScaleOf(v, r.head_dim, Codes::kLargest);
  const bool finite = k_scale.finite && v_scale.finite;
  if (!finite) {
    k_scale.scale = __builtin_nanf("");
    v_scale.scale = 0.0f;
  }

  std::byte* const half = head + r.offset / 16 * r.half_bytes;
  std::byte* const k_at = half + r.offset % 16 * 4;
  std::byte* const v_at = head + r.v_offset + r.offset / 4 * 64;
  const int v_byte = r.offset % 2 * 2 + r.offset / 2 % 2;  // tokens 0, 2, 1, 3 of a quad
  for (int base = 0; base < r.head_dim; base += kChunk) {
    const int n = r.head_dim - base < kChunk ? r.head_dim - base : kChunk;
    alignas(64) uint8_t codes[kChunk];
    ToCodes<Codes>(k + base, n, k_scale, finite, codes);
    for (int d = 0; d < n; d += 4) __builtin_memcpy(k_at + (base + d) / 4 * 64, codes + d, 4);
    ToCodes<Codes>(v + base, n, v_scale, finite, codes);
    for (int d = 0; d < n; d += 16) {
      StoreEveryFourth(v_at + (base + d) / 16 * 512, v_byte, codes + d, n - d < 16 ? n - d : 16);
    }
  }
  // Behind the codes.
  __builtin_memcpy(half + r.half_bytes - 64 + r.offset % 16 * 4, &k_scale.scale, 4);
  __builtin_memcpy(head + r.head_bytes - 128 + r.offset * 4, &v_scale.scale, 4);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
