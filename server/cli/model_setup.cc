#include "server/cli/model_setup.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/cli/in_model.h"
#include "server/cli/model_files.h"
#include "server/cli/startup_text.h"

namespace modu::cli {
namespace {

/// Tokens that a sequence is planned with when the KV size is ours to choose; a longer one takes
/// others' room.
constexpr int64_t kPlannedSequenceTokens = 2048;

/// Whether quantised weights, if there are any, may be packed twice: the second time takes a
/// quarter of the memory at most.
bool AffordsTwoPackings(const engine::Checkpoint& checkpoint) {
  int64_t quantised_bytes = 0;
  for (const engine::TensorInfo& tensor : checkpoint.tensors()) {
    if (kernels::IsBlockQuantised(tensor.dtype)) quantised_bytes += tensor.bytes;
  }
  return quantised_bytes > 0 && quantised_bytes <= kernels::MemoryLimitBytes() / 4;
}

/// KV enough for max-seqs sequences of a planned length, at most a quarter of the memory, at least
/// one full context.
int64_t KvTokens(const config::Config& config, const engine::ModelConfig& model, int64_t context,
                 const kernels::Device& device, kernels::DType kv_dtype) {
  if (config.kv_tokens > 0) return config.kv_tokens;
  const int64_t wanted = config.max_seqs * std::min(context, kPlannedSequenceTokens);
  const int block_size = device.KvBlockSize();
  const int64_t block_bytes = device.KvBlockBytes(
      {model.num_layers, model.num_kv_heads, model.head_dim, block_size, kv_dtype});
  const int64_t affordable =
      kernels::MemoryLimitBytes() / 4 / std::max<int64_t>(1, block_bytes) * block_size;
  return std::max(context, std::min(wanted, affordable));
}

absl::StatusOr<ModelSetup> SetUpModel(const config::Config& config, const std::string& path,
                                      OpenDevice open_device, const engine::Clock* clock) {
  const auto checkpoint = engine::OpenCheckpoint(path);
  if (!checkpoint.ok()) return InModel(path, checkpoint.status());
  const engine::ModelConfig& model = (*checkpoint)->config();
  if (config.ctx > model.max_position) {
    return absl::InvalidArgumentError(
        absl::StrCat("ctx: is ", config.ctx, ", the model has ", model.max_position));
  }

  kernels::DeviceOptions device_options;
  device_options.numerics = kernels::NumericsNamed(config.numerics);  // none: auto
  device_options.packs_twice = AffordsTwoPackings(**checkpoint);
  device_options.num_threads = config.threads;
  device_options.isa = config.isa;
  absl::StatusOr<std::unique_ptr<kernels::Device>> device = open_device(device_options);
  if (!device.ok()) return device.status();

  engine::RunnerOptions options;
  const int step_tokens =
      config.max_step_tokens > 0 ? config.max_step_tokens : (*device)->BestStepTokens();
  options.max_batch_tokens = std::max(step_tokens, config.max_seqs);
  options.max_sequences = config.max_seqs;
  options.max_model_len = config.ctx;
  options.clock = clock;
  const kernels::DType kv_dtype =
      engine::KvDTypeNamed(config.kv_dtype).value_or((*device)->DefaultKvDType());
  options.kv_dtype = kv_dtype;
  const int64_t context = config.ctx > 0 ? config.ctx : model.max_position;
  options.kv_tokens = KvTokens(config, model, context, **device, kv_dtype);

  absl::StatusOr<engine::LoadedModel> loaded =
      engine::LoadModel(path, *std::move(device), options, ShowProgress(config, "loading"));
  if (!loaded.ok()) return InModel(path, loaded.status());
  absl::StatusOr<api::ServedModel> served = ServedModelOf(config, path, *loaded);
  if (!served.ok()) return InModel(path, served.status());
  return ModelSetup{std::move(*loaded), std::move(*served), options.max_batch_tokens,
                    engine::NameOfKvDType(kv_dtype)};
}

}  // namespace

ModelSource ModelOn(OpenDevice open_device) {
  return [open_device](const config::Config& config, const std::string& path,
                       const engine::Clock* clock) {
    return SetUpModel(config, path, open_device, clock);
  };
}

}  // namespace modu::cli
