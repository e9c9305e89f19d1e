// RMS norm, QK-norm, RoPE, q's scale and the KV append for single rows, written once over
// vector-inl.h. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/hadamard-inl.h"
#include "kernels/cpu/kv_append-inl.h"
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

/// What QkvToken does to a head of 64 dims that is rotated whole, in registers; the same bits.
template <bool kCodes>
MODU_INLINE void RotateHeadOf64(float* head, const float* cos_sin, float scale) {
  constexpr int kHalf = 32 / kLanes;
  Float v[2 * kHalf];
  LoadAll(head, v);
#pragma GCC unroll 4
  for (int i = 0; i < kHalf; ++i) {
    const Float a = v[i], b = v[kHalf + i];
    const Float c = Load(cos_sin + i * kLanes), s = Load(cos_sin + 32 + i * kLanes);
    v[i] = NegFma(b, s, Mul(a, c));
    v[kHalf + i] = Fma(a, s, Mul(b, c));
  }
  if constexpr (kCodes) HadamardInRegisters(v);
  for (Float& x : v) x = Mul(x, Set(scale));
  StoreAll(v, head);
}

/// Of KV of type kKv. Where it is held in codes, all three are rotated.
template <DType kKv>
void QkvToken(const QkvRow& r) {
  const int span = RotationSpan(r.head_dim);
  const float q_scale = IsKvCode(kKv) ? r.q_scale / static_cast<float>(span) : r.q_scale;
  const bool in_registers = r.head_dim == 64 && (!IsKvCode(kKv) || span == 64) &&
                            r.cos_sin != nullptr && r.rotary_dim == 64 && !r.interleaved;
  for (int h = 0; h < r.num_heads + r.num_kv_heads; ++h) {
    float* head = r.row + static_cast<int64_t>(h) * r.head_dim;
    const bool is_query = h < r.num_heads;
    const float* weight = is_query ? r.q_norm : r.k_norm;
    if (weight != nullptr) RmsNorm(head, r.head_dim, weight, r.norm_eps, head);
    if (in_registers) {
      RotateHeadOf64<IsKvCode(kKv)>(head, r.cos_sin, is_query ? q_scale : 1.0f);
      continue;
    }
    if (r.cos_sin != nullptr) Rotate(head, r.cos_sin, r.rotary_dim, r.interleaved);
    if constexpr (IsKvCode(kKv)) Hadamard(head, r.head_dim, span);
    if (is_query) {
      for (int d = 0; d < r.head_dim; ++d) head[d] *= q_scale;
    }
  }
  const float* k = r.row + static_cast<int64_t>(r.num_heads) * r.head_dim;
  float* v = r.row + static_cast<int64_t>(r.num_heads + r.num_kv_heads) * r.head_dim;
  std::byte* cache = r.k;
  for (int g = 0; g < r.num_kv_heads; ++g) {
    if constexpr (IsKvCode(kKv)) Hadamard(v, r.head_dim, span);
    if constexpr (kKv == DType::kF32) AppendF32(k, v, r, cache);
    if constexpr (kKv == DType::kBF16) AppendBf16(k, v, r, cache);
    if constexpr (kKv == DType::kI8) AppendCodes<Int8Codes>(k, v, r, cache);
    if constexpr (kKv == DType::kF8E4M3) AppendCodes<F8Codes>(k, v, r, cache);
    k += r.head_dim;
    v += r.head_dim;
    cache += r.head_bytes;
  }
}

/// This level's.
constexpr RowKernels ThisRowKernels() {
  return {RmsNorm, QkvToken<DType::kF32>, QkvToken<DType::kBF16>, QkvToken<DType::kI8>,
          QkvToken<DType::kF8E4M3>};
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
