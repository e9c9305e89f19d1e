// From a path to a runner that can take steps: checkpoint, weights packed on the device, buffers,
// KV. The checkpoint is closed when this returns. Start-up thread, then hand the runner to the
// engine.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/weights.h"
#include "engine/runner/model_runner.h"
#include "engine/runner/transformer_runner.h"
#include "kernels/device.h"

namespace modu::engine {

struct LoadedModel {
  ModelConfig config;
  TokenizerFiles tokenizer;
  std::string format;  // as Checkpoint::format
  std::unique_ptr<ModelRunner> runner;
  std::string device;                                        // as Device::Describe
  int64_t file_bytes = 0;                                    // of the tensors read
  int64_t weight_bytes = 0, kv_bytes = 0, buffer_bytes = 0;  // on the device
  int64_t greedy_weight_bytes = 0;  // of weight_bytes: what a step of a greedy decode reads
  std::vector<std::string>
      unused_tensors;  // in the file, but no part of the model: worth a warning
};

/// f32, bf16, int8 or fp8; none for another name.
std::optional<kernels::DType> KvDTypeNamed(std::string_view name);
std::string NameOfKvDType(kernels::DType kv_dtype);

/// `progress` may be null. Errors are OpenCheckpoint's, LoadWeights' and
/// TransformerRunner::Create's.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path,
                                      std::unique_ptr<kernels::Device> device,
                                      const RunnerOptions& options, const LoadProgress& progress);

/// What `inspect` prints before anything is loaded: bytes of KV for one token of all layers.
int64_t KvBytesPerToken(const ModelConfig& config, kernels::DType kv_dtype);

}  // namespace modu::engine
