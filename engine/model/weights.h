// A model's weights on a device: matrices packed into the device's layout, norms and biases as
// float32. Read tensor by tensor, so that besides what is packed at most one fused matrix is in
// memory. Engine thread, at start.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "kernels/device.h"

namespace modu::engine {

struct LayerMatrices {
  std::shared_ptr<const kernels::PackedWeight> qkv;      // [(H + 2G) * D, d]
  std::shared_ptr<const kernels::PackedWeight> output;   // [d, H * D]
  std::shared_ptr<const kernels::PackedWeight> gate_up;  // [2F, d]
  std::shared_ptr<const kernels::PackedWeight> down;     // [d, F]
};

struct LayerWeights {
  LayerMatrices prompt, generation;  // by the phase of rows; where it does not matter, the same
  std::unique_ptr<kernels::Buffer> input_norm, post_norm;  // [d]
  std::unique_ptr<kernels::Buffer> q_norm, k_norm;         // [D] or null
  std::unique_ptr<kernels::Buffer> qkv_bias;               // [(H + 2G) * D] or null
  std::unique_ptr<kernels::Buffer> output_bias;            // [d] or null
  std::unique_ptr<kernels::Buffer> gate_up_bias;           // [2F] or null
  std::unique_ptr<kernels::Buffer> down_bias;              // [d] or null

  bool differs_by_phase() const {
    return prompt.qkv != generation.qkv || prompt.output != generation.output ||
           prompt.gate_up != generation.gate_up || prompt.down != generation.down;
  }
  const LayerMatrices& matrices(kernels::Phase phase) const {
    return phase == kernels::Phase::kPrompt ? prompt : generation;
  }
};

struct ModelWeights {
  // [vocab, d]; the embedding too where they are tied
  std::shared_ptr<const kernels::PackedWeight> head;
  std::shared_ptr<const kernels::PackedWeight> embedding;  // [vocab, d], or null: tied
  std::unique_ptr<kernels::Buffer> final_norm;             // [d]
  std::vector<LayerWeights> layers;
  bool phased = false;                      // some matrices differ by phase
  int64_t bytes = 0, greedy_bytes = 0;      // on the device; of them what a greedy decode reads
  std::vector<std::string> unused_tensors;  // in the file, but no part of this architecture

  const kernels::PackedWeight& embedding_table() const {
    return embedding == nullptr ? *head : *embedding;
  }
};

/// Called now and then with bytes of the file read so far and in all.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

/// On a device of numerics that depend on a row's phase, quantised matrices of layers are packed
/// for both; the head, which few rows reach, for generated ones alone.
absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, kernels::Device& device,
                                         const LoadProgress& progress);

}  // namespace modu::engine
