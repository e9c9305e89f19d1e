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
    to_read_ = total_;
  }

  /// Whether those are packed differently for the two phases.
  bool DiffersByPhase(const std::vector<std::string>& names) const {
    return device_.numerics() == Numerics::kPhased &&
           std::ranges::all_of(names, [&](const std::string& name) {
             const TensorInfo* info = Find(name);
             return info != nullptr && kernels::IsBlockQuantised(info->dtype);
           });
  }
  /// Progress is told of what is read, again too.
  void WillReadAgain(const std::vector<std::string>& names) {
    for (const std::string& name : names) to_read_ += Find(name)->bytes;
  }

  /// The parts stacked along their rows. Errors leave null and status().
  std::unique_ptr<PackedWeight> Matrix(const std::vector<std::string>& names, WeightUse use,
                                       Phase phase) {
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
    if (!status_.ok()) return nullptr;
    auto packed = device_.Pack(sources, use, phase);
    if (!packed.ok()) {
      status_ = absl::Status(
          packed.status().code(),
          absl::StrCat(packed.status().message(), "; the model's file has ", total_ >> 20, " MiB"));
      return nullptr;
    }
    device_bytes_ += (*packed)->bytes();
    Report();
    return *std::move(packed);
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

  void Report() const {
    const double share = static_cast<double>(read_) / static_cast<double>(to_read_);
    if (progress_) progress_(static_cast<int64_t>(share * static_cast<double>(total_)), total_);
  }

  const Checkpoint& checkpoint_;
  Device& device_;
  const LoadProgress& progress_;
  absl::Status status_;
  std::unordered_map<std::string, const TensorInfo*> by_name_;
  std::set<std::string> needed_, used_;
  int64_t read_ = 0, to_read_ = 0, total_ = 0, device_bytes_ = 0;
};

std::string LayerName(int index) { return absl::StrCat("model.layers.", index, "."); }

/// A layer's matrix: where it goes, and what it is stacked of.
struct MatrixPlan {
  std::shared_ptr<const PackedWeight> LayerMatrices::* member;
  std::vector<std::string> names;
  WeightUse use;
};

/// In the order of their use.
std::vector<MatrixPlan> MatricesOf(int index) {
  const std::string attn = LayerName(index) + "self_attn.", mlp = LayerName(index) + "mlp.";
  return {{&LayerMatrices::qkv,
           {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
           WeightUse::kLinear},
          {&LayerMatrices::output, {attn + "o_proj.weight"}, WeightUse::kLinear},
          {&LayerMatrices::gate_up,
           {mlp + "gate_proj.weight", mlp + "up_proj.weight"},
           WeightUse::kGatedLinear},
          {&LayerMatrices::down, {mlp + "down_proj.weight"}, WeightUse::kLinear}};
}

/// Those that generated tokens do not share.
LayerMatrices LoadPromptMatrices(Loader& load, int index) {
  LayerMatrices matrices;
  for (const MatrixPlan& plan : MatricesOf(index)) {
    if (!load.DiffersByPhase(plan.names)) continue;
    matrices.*plan.member = load.Matrix(plan.names, plan.use, Phase::kPrompt);
  }
  return matrices;
}

LayerWeights LoadLayer(Loader& load, const ModelConfig& config, int index, LayerMatrices prompt) {
  const std::string layer = LayerName(index);
  const std::string attn = layer + "self_attn.", mlp = layer + "mlp.";
  LayerWeights w;
  w.prompt = std::move(prompt);
  for (const MatrixPlan& plan : MatricesOf(index)) {
    w.generation.*plan.member = load.Matrix(plan.names, plan.use, Phase::kGeneration);
    auto& of_prompt = w.prompt.*plan.member;
    if (of_prompt == nullptr) of_prompt = w.generation.*plan.member;
  }
  w.input_norm = load.Floats({layer + "input_layernorm.weight"});
  if (config.qkv_bias)
    w.qkv_bias = load.Floats({attn + "q_proj.bias", attn + "k_proj.bias", attn + "v_proj.bias"});
  if (config.qk_norm) {
    w.q_norm = load.Floats({attn + "q_norm.weight"});
    w.k_norm = load.Floats({attn + "k_norm.weight"});
  }
  if (config.output_bias) w.output_bias = load.Floats({attn + "o_proj.bias"});
  w.post_norm = load.Floats({layer + "post_attention_layernorm.weight"});
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
  for (int i = 0; i < config.num_layers; ++i) {
    for (const MatrixPlan& plan : MatricesOf(i)) {
      if (!load.DiffersByPhase(plan.names)) continue;
      load.WillReadAgain(plan.names);
      weights.phased = true;
    }
  }
  // In the order of use: a backend may fetch ahead what was packed next.
  if (!config.tie_embeddings) {
    weights.embedding =
        load.Matrix({"model.embed_tokens.weight"}, WeightUse::kTable, Phase::kGeneration);
  }
  weights.final_norm = load.Floats({"model.norm.weight"});
  std::vector<LayerMatrices> of_prompts;
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    of_prompts.push_back(LoadPromptMatrices(load, i));
  }
  for (int i = 0; i < config.num_layers && load.status().ok(); ++i) {
    weights.layers.push_back(
        LoadLayer(load, config, i, std::move(of_prompts[static_cast<size_t>(i)])));
  }
  weights.head =
      load.Matrix({config.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"},
                  WeightUse::kHead, Phase::kGeneration);
  if (!load.status().ok()) return load.status();
  weights.bytes = load.device_bytes();
  weights.unused_tensors = load.UnusedTensors();
  return weights;
}

}  // namespace modu::engine
