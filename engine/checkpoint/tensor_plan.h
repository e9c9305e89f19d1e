// Which tensors a config needs, and whether a checkpoint has them in the right shape and a type
// that is served. After this no size in engine/model needs a check of its own. Any thread.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"

namespace modu::engine {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;  // [rows, cols] of a matrix, [n] of a norm or bias
};

/// Bounds of every hyperparameter (positive, heads divide, head_dim even, ids inside the
/// vocabulary). Errors name the field in config.json's spelling.
absl::Status CheckConfig(const ModelConfig& config);

/// In layer order. `config` has passed CheckConfig.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

/// Every expected tensor present, in its shape and a served type; F8 matrices with a tensor or
/// channel scale.
absl::Status CheckTensors(const ModelConfig& config, const std::vector<TensorInfo>& tensors);

}  // namespace modu::engine
