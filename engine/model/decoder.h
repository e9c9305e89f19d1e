// A transformer with its ends: embedding, layers (layer_stack.h) for the rows of either phase,
// head. Owns the weights and every activation buffer, sized at construction for the largest step;
// Forward and Logits allocate nothing. Engine thread.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/checkpoint/model_config.h"
#include "engine/clock.h"
#include "engine/model/decoder_step.h"
#include "engine/model/layer_stack.h"
#include "engine/model/weights.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace modu::engine {

/// Rows of a part of a step, by its own numbers.
struct PartRows {
  std::vector<int32_t> cu_seqlens, output;
};

class Decoder {
 public:
  /// max_tokens: T of the largest step. max_logit_rows: rows of one SelectRows call.
  Decoder(const ModelConfig& config, ModelWeights weights, kernels::Device* device, int max_tokens,
          int max_logit_rows);

  /// Leaves the residual stream of the step's output rows in place for SelectRows; writes all
  /// tokens' KV. Returns the time that prompts took by `clock`; 0 where they were computed with
  /// what was generated, or there is no clock.
  int64_t Forward(const DecoderStep& step, kernels::KvCache* kv, const Clock* clock = nullptr);
  /// Tokens of the last Forward that were computed: fewer than the step's if it was cut short
  /// (LayerStack::Forward). Then there are no output rows.
  int num_computed() const { return num_computed_; }
  /// Which output rows of the last Forward the head is applied to, as rows of its T:
  /// num_rows <= max_logit_rows.
  void SelectRows(const int32_t* rows, int num_rows);
  /// The selected rows' logits: [num_rows, vocab_size], valid until the next call.
  float* Logits();
  /// The selected rows' ids of the largest logit among those below `limit`, the lowest of equals:
  /// [num_rows]. False, writing nothing, where only Logits can tell (kernels::OpTable::argmax).
  bool Argmax(int limit, int32_t* ids);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  int max_logit_rows() const { return max_logit_rows_; }
  int64_t buffer_bytes() const { return buffer_bytes_; }
  kernels::KvLayout kv_layout(kernels::DType dtype) const;

 private:
  std::unique_ptr<kernels::Buffer> Allocate(size_t bytes);
  int64_t qkv_width() const;
  Activations RowsFrom(int row) const;

  const ModelConfig config_;
  const ModelWeights weights_;
  kernels::Device* const device_;
  const int max_tokens_, max_logit_rows_;
  int64_t buffer_bytes_ = 0;
  int num_selected_ = 0, num_computed_ = 0;
  LayerStack prompt_, generation_;
  PartRows prompt_rows_, generation_rows_;
  int num_generated_ = 0;                           // rows of the last step that `generation_` took
  std::vector<int32_t> selected_;                   // where SelectRows' rows stand
  std::unique_ptr<kernels::Buffer> inv_freq_;       // [R/2]
  std::unique_ptr<kernels::Buffer> hidden_;         // [T, d]
  std::unique_ptr<kernels::Buffer> qkv_;            // [T, (H + 2G) * D]
  std::unique_ptr<kernels::Buffer> cos_sin_;        // [T, R]
  std::unique_ptr<kernels::Buffer> input_, gated_;  // Prepared, of either phase's layers
  std::unique_ptr<kernels::Buffer> head_input_;     // Prepared of max_logit_rows
  std::unique_ptr<kernels::Buffer> logits_;         // [max_logit_rows, vocab]
};

}  // namespace modu::engine
