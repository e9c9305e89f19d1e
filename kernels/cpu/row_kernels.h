// What one instruction set offers for work on single rows: RMS norm, and what happens to q, k and v
// between the projection and attention (QK-norm, RoPE, q's scale, KV append). Plain structs, no
// allocation, no threads; the bits of a row depend on that row alone and are the same on AVX2 and
// AVX-512.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace modu::kernels::cpu {

/// One token's q heads, k heads and v heads, and its place in the cache.
struct QkvRow {
  float* row;  // [(H + 2G) * D]; left normed, with RoPE, rotated where KV is in codes, q scaled
  int num_heads, num_kv_heads, head_dim;
  const float* q_norm;  // [D] or null
  const float* k_norm;  // [D] or null
  float norm_eps;
  const float* cos_sin;  // [R]: cosines, then sines; or null
  int rotary_dim;
  bool interleaved;
  float q_scale;
  std::byte* k;  // the block's K of KV head 0 in this layer
  int64_t head_bytes, half_bytes, v_offset;
  int offset;  // the token's place in its block
};

using QkvFn = void (*)(const QkvRow& row);

struct RowKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight
  void (*rms_norm)(const float* x, int width, const float* weight, float eps, float* out);
  // By the type of the KV.
  QkvFn qkv_f32, qkv_bf16, qkv_int8, qkv_fp8;

  QkvFn Qkv(DType kv) const {
    return kv == DType::kF32      ? qkv_f32
           : kv == DType::kI8     ? qkv_int8
           : kv == DType::kF8E4M3 ? qkv_fp8
                                  : qkv_bf16;
  }
};

extern const RowKernels kRowKernelsAvx2;
extern const RowKernels kRowKernelsAvx512;

}  // namespace modu::kernels::cpu
