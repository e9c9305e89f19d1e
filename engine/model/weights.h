// A model's weights on a device: matrices packed into the device's layout, norms and biases as
// float32. Read tensor by tensor, so that at most one fused matrix is in memory twice. Engine
// thread, at start.
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

struct LayerWeights {
  std::unique_ptr<kernels::PackedWeight> qkv;              // [(H + 2G) * D, d]
  std::unique_ptr<kernels::PackedWeight> output;           // [d, H * D]
  std::unique_ptr<kernels::PackedWeight> gate_up;          // [2F, d]
  std::unique_ptr<kernels::PackedWeight> down;             // [d, F]
  std::unique_ptr<kernels::Buffer> input_norm, post_norm;  // [d]
  std::unique_ptr<kernels::Buffer> q_norm, k_norm;         // [D] or null
  std::unique_ptr<kernels::Buffer> qkv_bias;               // [(H + 2G) * D] or null
  std::unique_ptr<kernels::Buffer> output_bias;            // [d] or null
  std::unique_ptr<kernels::Buffer> gate_up_bias;           // [2F] or null
  std::unique_ptr<kernels::Buffer> down_bias;              // [d] or null
};

struct ModelWeights {
  std::unique_ptr<kernels::PackedWeight> head;  // [vocab, d]; the embedding too where they are tied
  std::unique_ptr<kernels::PackedWeight> embedding;  // [vocab, d], or null: tied
  std::unique_ptr<kernels::Buffer> final_norm;       // [d]
  std::vector<LayerWeights> layers;
  int64_t bytes = 0;                        // on the device
  std::vector<std::string> unused_tensors;  // in the file, but no part of this architecture

  const kernels::PackedWeight& embedding_table() const {
    return embedding == nullptr ? *head : *embedding;
  }
};

/// Called now and then with bytes of the file read so far and in all.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, kernels::Device& device,
                                         const LoadProgress& progress);

}  // namespace modu::engine
