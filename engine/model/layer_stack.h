// The layers of a transformer, written once over kernels/ops.h and driven by ModelConfig: llama,
// mistral, qwen2, qwen3. Run over rows of one phase (kernels::Phase), whose matrices it multiplies
// with. Owns neither weights nor activations. Engine thread.
#pragma once
#include <cstdint>

#include "engine/checkpoint/model_config.h"
#include "engine/model/decoder_step.h"
#include "engine/model/tail_step.h"
#include "engine/model/weights.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace modu::engine {

/// Where the rows of a step stand while layers work on them.
struct Activations {
  float* hidden;            // [T, d] the residual stream
  float* qkv;               // [T, (H + 2G) * D]
  const float* cos_sin;     // [T, R]
  kernels::Prepared input;  // what a norm or attention wrote
  kernels::Prepared gated;  // what the gate wrote
};

class LayerStack {
 public:
  /// config and weights must outlive it. max_tokens: T of the largest step.
  LayerStack(const ModelConfig& config, const ModelWeights& weights, kernels::Phase phase,
             kernels::Device* device, int max_tokens);

  /// Runs `step`, rows `at`, through all layers: writes all tokens' KV, and leaves the residual
  /// stream of the output rows where RowOf says. Returns the tokens computed: all, or the first
  /// ones of a step that was cut short (DecoderStep::arrived), which has no output rows then, and
  /// in whose other tokens' KV there may be anything.
  int Forward(const DecoderStep& step, const Activations& at, kernels::KvCache* kv);
  /// Where output row `row` of the last step stands since, counted as it is.
  int32_t RowOf(int32_t row) const { return tail_.RowOf(row); }

  /// Bytes that Activations' Prepared need at up to max_tokens rows.
  size_t InputBytes(int max_tokens) const;
  size_t GatedBytes(int max_tokens) const;

 private:
  const LayerWeights& Layer(int index) const { return weights_.layers[static_cast<size_t>(index)]; }
  const LayerMatrices& Matrices(int index) const { return Layer(index).matrices(phase_); }
  bool CutShort(int layers_left, DecoderStep* step);
  void WriteKv(const DecoderStep& step, const Activations& at, int layer, kernels::KvCache* kv);
  void KeepTail(const Activations& at);
  void Attention(const DecoderStep& step, const Activations& at, int layer,
                 const kernels::KvCache* kv);
  /// next: the step that the layer behind attends; null behind the last one.
  void FeedForward(const DecoderStep& step, const Activations& at, int layer,
                   const DecoderStep* next, const kernels::KvCache* kv);
  kernels::AttentionParams AttentionOf(const DecoderStep& step, const Activations& at, int layer,
                                       const kernels::KvCache* kv) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const kernels::Phase phase_;
  kernels::Device* const device_;
  TailStep tail_;
  int32_t cut_cu_seqlens_[2] = {}, cut_seq_len_ = 0;  // of a step that was cut short
};

}  // namespace modu::engine
