#include "engine/runner/load_model.h"

#include <new>
#include <utility>

#include "kernels/kv_codes.h"

namespace modu::engine {
namespace {

constexpr std::pair<std::string_view, kernels::DType> kKvDTypes[] = {
    {"f32", kernels::DType::kF32},
    {"bf16", kernels::DType::kBF16},
    {"int8", kernels::DType::kI8},
    {"fp8", kernels::DType::kF8E4M3}};

}  // namespace

std::optional<kernels::DType> KvDTypeNamed(std::string_view name) {
  for (const auto& [known, dtype] : kKvDTypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::string NameOfKvDType(kernels::DType kv_dtype) {
  for (const auto& [name, dtype] : kKvDTypes) {
    if (dtype == kv_dtype) return std::string(name);
  }
  return kernels::TraitsOf(kv_dtype).name;
}

int64_t KvBytesPerToken(const ModelConfig& config, kernels::DType kv_dtype) {
  const int64_t head_bytes =
      2 * kernels::RowBytes(kv_dtype, config.head_dim) + kernels::KvScaleBytes(kv_dtype);
  return config.num_layers * config.num_kv_heads * head_bytes;
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
    model.greedy_weight_bytes = weights->greedy_bytes;
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
