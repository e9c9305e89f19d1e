// The op table: every step of a decoder layer as one coarse, fused op over plain params.
// engine/model calls these in order from one thread; a backend may compute at once (cpu, ref) or
// enqueue (cuda). All pointers are the device's. Shapes: T tokens of the step, d width of the
// residual stream, H query heads, G KV heads, D head_dim, F ffn width. Float tensors are row-major
// f32. Bits of a row depend on that row alone (never on T, chunking or threads).
#pragma once
#include <cstdint>

#include "kernels/device.h"

namespace modu::kernels {

/// hidden[t] = table[token_ids[t]] * scale
struct EmbedParams {
  int num_tokens;
  const int32_t* token_ids;   // [T], each in [0, table rows)
  const PackedWeight* table;  // [vocab, d]
  float scale;                // 1 for the llama family
  float* hidden;              // [T, d]
};

/// data[i] = data[rows[i]], in place
struct KeepRowsParams {
  int num_rows;
  const int32_t* rows;  // [num_rows], strictly rising
  int64_t width;
  int64_t stride;  // floats
  float* data;     // [*, stride], the first `width` used
};

/// out = prepare(RMSNorm(hidden[rows]) * weight) for the consumer. Sums of squares in the backend's
/// fixed order.
struct NormParams {
  int num_tokens;       // rows to write
  int width;            // d
  const float* hidden;  // [*, d]
  const int32_t* rows;  // [num_tokens] rows of hidden to read, or null for 0..num_tokens-1
  const float* weight;  // [d], or null: prepare without a norm
  float eps;
  const PackedWeight* consumer;
  Prepared out;
};

/// out (+)= in x weight^T + bias
struct LinearParams {
  int num_tokens;
  Prepared in;
  const PackedWeight* weight;  // [N, K]
  const float* bias;           // [N] or null
  bool accumulate;             // true: adds to out (the residual stream)
  float* out;                  // [T, out_stride], N used
  int64_t out_stride;          // floats
};

/// ids[t] = the lowest n below `limit` whose in[t] x weight[n]^T, as `linear` computes it, is the
/// largest.
struct ArgmaxParams {
  int num_tokens;
  Prepared in;
  const PackedWeight* weight;  // [N, K], packed with WeightUse::kHead
  int limit;                   // 1..N
  int32_t* ids;                // [T]
};

struct AttentionParams;

enum class Activation : uint8_t { kSilu, kGeluTanh };

/// out = prepare(act(in x gate^T) * (in x up^T)) for the consumer
struct GatedLinearParams {
  int num_tokens;
  Prepared in;
  const PackedWeight* weight;  // packed with WeightUse::kGatedLinear, [2F, K]
  Activation activation;
  const PackedWeight* consumer;  // [*, F]
  Prepared out;
  const float* bias = nullptr;  // [2F], gate's then up's, before the activation; or null
  /// What is attended next, or null: a backend may fetch its KV meanwhile. Only kv, layer, window
  /// and the sequences count.
  const AttentionParams* next_attention = nullptr;
};

/// cos_sin[t] = {cos(p*f_0)..cos(p*f_{R/2-1}), sin(p*f_0)..} * attention_scale with p =
/// positions[t]; once a step.
struct RopeTableParams {
  int num_tokens;
  const int32_t* positions;  // [T]
  int rotary_dim;            // R, even
  const float* inv_freq;     // [R/2]
  float attention_scale;     // YaRN's mscale; 1 otherwise
  float* cos_sin;            // [T, R]
};

/// In place on qkv: QK-norm (optional), RoPE (optional), q *= q_scale; K and V go to the paged
/// cache. Where that holds codes, q, k and v may be left rotated (kv_codes.h), as attention reads
/// them.
struct QkvParams {
  int num_tokens;
  int num_heads, num_kv_heads, head_dim;
  float* qkv;           // [T, (H + 2G) * D]: q heads, k heads, v heads
  const float* q_norm;  // [D] or null
  const float* k_norm;  // [D] or null
  float norm_eps;
  const float* cos_sin;  // [T, R], or null: no RoPE on this layer
  int rotary_dim;        // R <= D; the first R dims rotate
  bool interleaved;      // pairs (2i, 2i+1) instead of (i, i + R/2)
  float q_scale;         // softmax scale, folded into q
  KvCache* kv;
  int layer;                    // index within the cache group
  const int64_t* slot_mapping;  // [T]: block * block_size + offset
};

/// Causal attention of each sequence's query rows over its own paged KV, decode rows and prefill
/// chunks alike. Softmax pieces are cut at fixed absolute positions and merged in rising order, so
/// bits do not depend on chunking.
struct AttentionParams {
  int num_tokens;
  int num_seqs;
  int num_heads, num_kv_heads, head_dim;
  const float* qkv;  // as QkvParams left it, or keep_rows moved it; only the q heads are read
  const KvCache* kv;
  int layer;
  const int32_t* cu_seqlens;   // [S+1] rows of sequence s: [cu_seqlens[s], cu_seqlens[s+1])
  const int32_t* seq_lens;     // [S] KV length, which ends with those rows
  const int32_t* block_table;  // [S, block_table_stride]
  int block_table_stride;
  /// Of equal ones (Device::NextStep) the batch is the same: num_tokens, num_seqs and the four
  /// above. 0: nothing is known.
  uint64_t step;
  int window;                    // 0: full; w: a row at position p sees (p - w, p]
  const PackedWeight* consumer;  // o_proj
  Prepared out;                  // [T, H*D] for the consumer
};

struct OpTable {
  void (*embed)(Device&, const EmbedParams&);
  void (*keep_rows)(Device&, const KeepRowsParams&);
  void (*norm)(Device&, const NormParams&);
  void (*linear)(Device&, const LinearParams&);
  /// False, having written nothing, where a product is not finite, or the backend has no shorter
  /// way than `linear` and a look at all products.
  bool (*argmax)(Device&, const ArgmaxParams&);
  void (*gated_linear)(Device&, const GatedLinearParams&);
  void (*rope_table)(Device&, const RopeTableParams&);
  void (*qkv)(Device&, const QkvParams&);
  void (*attention)(Device&, const AttentionParams&);
};

}  // namespace modu::kernels
