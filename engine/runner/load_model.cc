#include "engine/runner/load_model.h"

#include <new>
#include <utility>

namespace modu::engine {

kernels::DType DefaultKvDType(kernels::Numerics numerics) {
  return numerics == kernels::Numerics::kExact ? kernels::DType::kF32 : kernels::DType::kBF16;
}

int64_t KvBytesPerToken(const ModelConfig& config, kernels::DType kv_dtype) {
  return kernels::RowBytes(kv_dtype,
                           int64_t{2} * config.num_layers * config.num_kv_heads * config.head_dim);
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path,
                                      std::unique_ptr<kernels::Device> device,
                                      const RunnerOptions& options, const LoadProgress& progress) {
  auto checkpoint = OpenCheckpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  LoadedModel model;
  const auto counted = [&](int64_t done, int64_t total) {
    model.file_bytes = total;
    if (progress) progress(done, total);
  };
  try {
    auto weights = LoadWeights(**checkpoint, *device, counted);
    if (!weights.ok()) return weights.status();
    model.config = (*checkpoint)->config();
    model.tokenizer = (*checkpoint)->tokenizer_files();
    model.format = (*checkpoint)->format();
    model.unused_tensors = weights->unused_tensors;
    model.weight_bytes = weights->bytes;
    model.device = device->Describe();
    auto runner =
        TransformerRunner::Create(std::move(device), model.config, *std::move(weights), options);
    if (!runner.ok()) return runner.status();
    model.kv_bytes = (*runner)->kv_bytes();
    model.buffer_bytes = (*runner)->decoder().buffer_bytes();
    model.runner = *std::move(runner);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("memory for the weights cannot be had");
  }
  return model;
}

}  // namespace modu::engine
