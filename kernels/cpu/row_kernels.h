// What one instruction set offers for work on single rows: RMS norm, and what happens to q, k and v
// between the projection and attention (QK-norm, RoPE, q's scale, KV append). Plain structs, no
// allocation, no threads; the bits of a row depend on that row alone and are the same on AVX2 and
// AVX-512.
#pragma once
#include <cstddef>
#include <cstdint>

namespace modu::kernels::cpu {

/// One token's q heads, k heads and v heads, and its place in the cache.
struct QkvRow {
  float* row;  // [(H + 2G) * D]; q and k are left normed, rotated (and q scaled)
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

struct RowKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight
  void (*rms_norm)(const float* x, int width, const float* weight, float eps, float* out);
  void (*qkv_f32)(const QkvRow& row);
  void (*qkv_bf16)(const QkvRow& row);
};

extern const RowKernels kRowKernelsAvx2;
extern const RowKernels kRowKernelsAvx512;

}  // namespace modu::kernels::cpu
