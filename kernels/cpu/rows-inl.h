// RMS norm, QK-norm, RoPE, q's scale and the KV append for single rows, written once over
// vector-inl.h. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Sum of squares: two alternating groups of 16 lanes over rising columns, a short tail padded with
/// zeros, reduced in one fixed order.
MODU_INLINE float SumOfSquares(const float* x, int n) {
  Group even = SetGroup(0.0f), odd = SetGroup(0.0f);
  int i = 0;
  for (; i + 32 <= n; i += 32) {
    for (int part = 0; part < kParts; ++part) {
      const Float a = Load(x + i + part * kLanes), b = Load(x + i + 16 + part * kLanes);
      even.part[part] = Fma(a, a, even.part[part]);
      odd.part[part] = Fma(b, b, odd.part[part]);
    }
  }
  if (i < n) {
    float tail[32] = {};
    for (int j = 0; i + j < n; ++j) tail[j] = x[i + j];
    for (int part = 0; part < kParts; ++part) {
      const Float a = Load(tail + part * kLanes), b = Load(tail + 16 + part * kLanes);
      even.part[part] = Fma(a, a, even.part[part]);
      odd.part[part] = Fma(b, b, odd.part[part]);
    }
  }
  for (int part = 0; part < kParts; ++part) {
    even.part[part] = Add(even.part[part], odd.part[part]);
  }
  return Sum(even);
}

void RmsNorm(const float* x, int width, const float* weight, float eps, float* out) {
  const float mean = SumOfSquares(x, width) / static_cast<float>(width);
  const float inverse = 1.0f / __builtin_sqrtf(mean + eps);
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    Store(out + i, Mul(Mul(Load(x + i), Set(inverse)), Load(weight + i)));
  }
  for (; i < width; ++i) out[i] = x[i] * inverse * weight[i];
}

/// (a, b) -> (a cos - b sin, b cos + a sin), each with one rounding of the second product's sum.
MODU_INLINE void Rotate(float* head, const float* cos_sin, int rotary_dim, bool interleaved) {
  const int half = rotary_dim / 2;
  const float* sin = cos_sin + half;
  int i = 0;
  if (!interleaved) {
    for (; i + kLanes <= half; i += kLanes) {
      const Float a = Load(head + i), b = Load(head + half + i);
      const Float c = Load(cos_sin + i), s = Load(sin + i);
      Store(head + i, NegFma(b, s, Mul(a, c)));
      Store(head + half + i, Fma(a, s, Mul(b, c)));
    }
  }
  for (; i < half; ++i) {
    float& a = head[interleaved ? 2 * i : i];
    float& b = head[interleaved ? 2 * i + 1 : half + i];
    const float x = a, y = b;
    a = __builtin_fmaf(-y, sin[i], x * cos_sin[i]);
    b = __builtin_fmaf(x, sin[i], y * cos_sin[i]);
  }
}

/// Nearest even; NaN stays NaN (made quiet).
MODU_INLINE uint16_t ToBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

constexpr int kChunk = 64;  // dims converted at a time

/// A token whose V is not finite becomes NaN in its K, which only rows that see the token read, and
/// its V 0: tile products multiply what a row does not see by 0, and 0 x NaN is NaN.
MODU_INLINE void AppendBf16(const float* k, const float* v, int head_dim, int offset,
                            int64_t half_bytes, int64_t v_offset, std::byte* head) {
  std::byte* k_at = head + offset / 16 * half_bytes + offset % 16 * 4;
  std::byte* v_at = head + v_offset + offset / 2 * 64 + offset % 2 * 2;
  bool poisoned = false;
  for (int base = 0; base < head_dim; base += kChunk) {
    const int n = head_dim - base < kChunk ? head_dim - base : kChunk;
    uint16_t bits[kChunk];
    for (int d = 0; d < n; ++d) bits[d] = ToBf16(k[base + d]);
    for (int d = 0; d < n; d += 2) __builtin_memcpy(k_at + (base + d) / 2 * 64, bits + d, 4);
    uint16_t largest = 0;  // magnitude
    for (int d = 0; d < n; ++d) {
      bits[d] = ToBf16(v[base + d]);
      const auto magnitude = static_cast<uint16_t>(bits[d] & 0x7FFF);
      largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7F80) {
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

MODU_INLINE void AppendF32(const float* k, const float* v, int head_dim, int offset,
                           int64_t half_bytes, int64_t v_offset, std::byte* head) {
  auto* k_at = reinterpret_cast<float*>(head + offset / 16 * half_bytes) + offset % 16;
  auto* v_at = reinterpret_cast<float*>(head + v_offset) + offset * 16;
  for (int d = 0; d < head_dim; ++d) k_at[d * 16] = k[d];
  for (int d = 0; d < head_dim; ++d) v_at[d / 16 * 512 + d % 16] = v[d];
}

template <bool kBf16>
void QkvToken(const QkvRow& r) {
  for (int h = 0; h < r.num_heads + r.num_kv_heads; ++h) {
    float* head = r.row + static_cast<int64_t>(h) * r.head_dim;
    const bool is_query = h < r.num_heads;
    const float* weight = is_query ? r.q_norm : r.k_norm;
    if (weight != nullptr) RmsNorm(head, r.head_dim, weight, r.norm_eps, head);
    if (r.cos_sin != nullptr) Rotate(head, r.cos_sin, r.rotary_dim, r.interleaved);
    if (is_query) {
      for (int d = 0; d < r.head_dim; ++d) head[d] *= r.q_scale;
    }
  }
  const float* k = r.row + static_cast<int64_t>(r.num_heads) * r.head_dim;
  const float* v = k + static_cast<int64_t>(r.num_kv_heads) * r.head_dim;
  std::byte* cache = r.k;
  for (int g = 0; g < r.num_kv_heads; ++g) {
    if constexpr (kBf16) {
      AppendBf16(k, v, r.head_dim, r.offset, r.half_bytes, r.v_offset, cache);
    } else {
      AppendF32(k, v, r.head_dim, r.offset, r.half_bytes, r.v_offset, cache);
    }
    k += r.head_dim;
    v += r.head_dim;
    cache += r.head_bytes;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
