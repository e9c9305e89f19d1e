#include "engine/model/weights.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/tensor_plan.h"
#include "kernels/check.h"
#include "kernels/ref/dequantize.h"

namespace modu::engine {
namespace {

using kernels::Buffer;
using kernels::Device;
using kernels::DType;
using kernels::Numerics;
using kernels::PackedWeight;
using kernels::Phase;
using kernels::WeightSource;
using kernels::WeightUse;

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, Device& device, const LoadProgress& progress)
      : checkpoint_(checkpoint), device_(device), progress_(progress) {
    for (const TensorInfo& info : checkpoint.tensors()) by_name_.emplace(info.name, &info);
    for (const ExpectedTensor& expected : ExpectedTensors(checkpoint.config())) {
      needed_.insert(expected.name);
      if (const TensorInfo* info = Find(expected.name)) total_ += info->bytes;
    }
  }

  /// A matrix for rows of either phase.
  struct Phases {
    std::shared_ptr<const PackedWeight> prompt, generation;
  };

  /// The parts stacked along their rows. Errors leave null and status().
  Phases Matrix(const std::vector<std::string>& names, WeightUse use) {
    std::vector<std::vector<std::byte>> bytes(names.size());
    std::vector<std::vector<float>> scales(names.size());
    std::vector<WeightSource> sources;
    for (size_t i = 0; i < names.size() && status_.ok(); ++i) {
      const TensorInfo* info = Read(names[i], &bytes[i]);
      if (info == nullptr) break;
      if (info->dtype == DType::kF8E4M3) scales[i] = Vector(names[i] + "_scale");
      sources.push_back({info->dtype, info->shape[0], info->shape[1], bytes[i].data(),
                         scales[i].empty() ? nullptr : scales[i].data(),
                         static_cast<int64_t>(scales[i].size())});
    }
    if (!status_.ok()) return {};
    Phases phases;
    phases.generation = Pack(sources, use, Phase::kGeneration);
    if (!status_.ok()) return {};
    phases.prompt = phases.generation;
    if (use != WeightUse::kTable) {
      greedy_bytes_ += phases.generation->bytes() - phases.generation->spared_bytes();
    }
    if (DiffersByPhase(sources, use)) phases.prompt = Pack(sources, use, Phase::kPrompt);
    Report();
    return phases;
  }

  /// The vectors one after another, as float32 on the device.
  std::unique_ptr<Buffer> Floats(const std::vector<std::string>& names) {
    std::vector<float> values;
    for (const std::string& name : names) {
      const std::vector<float> part = Vector(name);
      values.insert(values.end(), part.begin(), part.end());
    }
    if (!status_.ok()) return nullptr;
    auto buffer = device_.Allocate(values.size() * sizeof(float));
    std::memcpy(buffer->data(), values.data(), values.size() * sizeof(float));
    device_bytes_ += static_cast<int64_t>(buffer->bytes());
    greedy_bytes_ += static_cast<int64_t>(buffer->bytes());
    return buffer;
  }

  std::vector<std::string> UnusedTensors() const {
    std::vector<std::string> unused;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      if (used_.count(info.name) == 0) unused.push_back(info.name);
    }
    return unused;
  }

  const absl::Status& status() const { return status_; }
  int64_t device_bytes() const { return device_bytes_; }
  int64_t greedy_bytes() const { return greedy_bytes_; }

 private:
  const TensorInfo* Find(const std::string& name) const {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : it->second;
  }

  const TensorInfo* Read(const std::string& name, std::vector<std::byte>* bytes) {
    const TensorInfo* info = Find(name);
    MODU_CHECK(info != nullptr);  // OpenCheckpoint has checked that each one is there
    bytes->resize(static_cast<size_t>(info->bytes));
    absl::Status status = checkpoint_.Read(*info, bytes->data());
    if (!status.ok()) {
      status_ = std::move(status);
      return nullptr;
    }
    used_.insert(name);
    if (needed_.count(name) != 0) read_ += info->bytes;
    return info;
  }

  std::vector<float> Vector(const std::string& name) {
    std::vector<std::byte> bytes;
    if (!status_.ok()) return {};
    const TensorInfo* info = Read(name, &bytes);
    if (info == nullptr) return {};
    int64_t elements = 1;
    for (int64_t dim : info->shape) elements *= dim;
    std::vector<float> values(static_cast<size_t>(elements));
    kernels::DequantizeRow(info->dtype, bytes.data(), elements, values.data());
    return values;
  }

  /// The head is reached by few rows: of either phase by the same weights.
  bool DiffersByPhase(const std::vector<WeightSource>& sources, WeightUse use) const {
    return device_.numerics() == Numerics::kPhased && !kernels::ReadByRows(use) &&
           std::ranges::all_of(sources, [](const WeightSource& source) {
             return kernels::IsBlockQuantised(source.dtype);
           });
  }

  std::shared_ptr<const PackedWeight> Pack(const std::vector<WeightSource>& sources, WeightUse use,
                                           Phase phase) {
    auto packed = device_.Pack(sources, use, phase);
    if (!packed.ok()) {
      status_ = absl::Status(
          packed.status().code(),
          absl::StrCat(packed.status().message(), "; the model's file has ", total_ >> 20, " MiB"));
      return nullptr;
    }
    device_bytes_ += (*packed)->bytes();
    return *std::move(packed);
  }

  void Report() const {
    if (progress_) progress_(read_, total_);
  }

  const Checkpoint& checkpoint_;
  Device& device_;
  const LoadProgress& progress_;
  absl::Status status_;
  std::unordered_map<std::string, const TensorInfo*> by_name_;
  std::set<std::string> needed_, used_;
  int64_t read_ = 0, total_ = 0, device_bytes_ = 0, greedy_bytes_ = 0;
};

LayerWeights LoadLayer(Loader& load, const ModelConfig& config, int index) {
  const std::string layer = absl::StrCat("model.layers.", index, ".");
  const std::string attn = layer + "self_attn.", mlp = layer + "mlp.";
  LayerWeights w;
  const auto matrix = [&](std::shared_ptr<const PackedWeight> LayerMatrices::* member,
                          const std::vector<std::string>& names, WeightUse use) {
    Loader::Phases phases = load.Matrix(names, use);
    w.prompt.*member = std::move(phases.prompt);
    w.generation.*member = std::move(phases.generation);
  };
  w.input_norm = load.Floats({layer + "input_layernorm.weight"});
  matrix(&LayerMatrices::qkv,
         {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
         WeightUse::kLinear);
  if (config.qkv_bias)
    w.qkv_bias = load.Floats({attn + "q_proj.bias", attn + "k_proj.bias", attn + "v_proj.bias"});
  if (config.qk_norm) {
    w.q_norm = load.Floats({attn + "q_norm.weight"});
    w.k_norm = load.Floats({attn + "k_norm.weight"});
  }
  matrix(&LayerMatrices::output, {attn + "o_proj.weight"}, WeightUse::kLinear);
  if (config.output_bias) w.output_bias = load.Floats({attn + "o_proj.bias"});
  w.post_norm = load.Floats({layer + "post_attention_layernorm.weight"});
  matrix(&LayerMatrices::gate_up, {mlp + "gate_proj.weight", mlp + "up_proj.weight"},
         WeightUse::kGatedLinear);
  matrix(&LayerMatrices::down, {mlp + "down_proj.weight"}, WeightUse::kLinear);
  if (config.mlp_bias) {
    w.gate_up_bias = load.Floats({mlp + "gate_proj.bias", mlp + "up_proj.bias"});
    w.down_bias = load.Floats({mlp + "down_proj.bias"});
  }
  return w;
}

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, Device& device,
                                         const LoadProgress& progress) {
  const ModelConfig& config = checkpoint.config();
  Loader load(checkpoint, device, progress);
  ModelWeights weights;
  // In the order of use: a backend may fetch ahead what was packed next.
  if (!config.tie_embeddings) {
    weights.embedding = load.Matrix({"model.embed_tokens.weight"}, WeightUse::kTable).generation;
  }
  weights.final_norm = load.Floats({"model.norm.weight"});
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    weights.layers.push_back(LoadLayer(load, config, i));
    weights.phased = weights.phased || weights.layers.back().differs_by_phase();
  }
  weights.head =
      load.Matrix({config.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"},
                  WeightUse::kHead)
          .generation;
  if (!load.status().ok()) return load.status();
  weights.bytes = load.device_bytes();
  weights.greedy_bytes = load.greedy_bytes();
  weights.unused_tensors = load.UnusedTensors();
  return weights;
}

}  // namespace modu::engine
