#include "engine/checkpoint/tensor_plan.h"

#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace modu::engine {
namespace {

using kernels::DType;

struct Bound {
  const char* field;
  int64_t value, low, high;
};

absl::Status InVocabulary(const char* field, int32_t id, const ModelConfig& config) {
  if (id < config.vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": is ", id, ", outside the vocabulary of ", config.vocab_size));
}

bool IsPlain(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

std::string Shape(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

using TensorsByName = std::map<std::string, const TensorInfo*>;

absl::Status CheckScale(const TensorsByName& by_name, const ExpectedTensor& tensor) {
  const auto scale = by_name.find(tensor.name + "_scale");
  if (scale == by_name.end()) {
    if (by_name.count(tensor.name + "_scale_inv") != 0) {
      return absl::UnimplementedError(absl::StrCat(
          tensor.name,
          "_scale_inv: block-scaled F8_E4M3 is not supported (tensor and channel scales are)"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(tensor.name, ": is F8_E4M3 without ", tensor.name, "_scale"));
  }
  const std::vector<int64_t>& shape = scale->second->shape;
  const int64_t rows = tensor.shape[0];
  const bool per_tensor =
      shape.empty() || shape == std::vector<int64_t>{1} || shape == std::vector<int64_t>{1, 1};
  const bool per_channel =
      shape == std::vector<int64_t>{rows} || shape == std::vector<int64_t>{rows, 1};
  if (!per_tensor && !per_channel) {
    return absl::UnimplementedError(absl::StrCat(tensor.name, "_scale: shape ", Shape(shape),
                                                 " is neither a tensor nor a channel scale of ",
                                                 rows, " rows"));
  }
  if (!IsPlain(scale->second->dtype)) {
    return absl::UnimplementedError(absl::StrCat(tensor.name, "_scale: type ",
                                                 kernels::TraitsOf(scale->second->dtype).name,
                                                 " is not supported"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckConfig(const ModelConfig& c) {
  const Bound bounds[] = {
      {"hidden_size", c.hidden_size, 1, 1 << 20},
      {"intermediate_size", c.intermediate_size, 1, 1 << 22},
      {"num_hidden_layers", c.num_layers, 1, 4096},
      {"num_attention_heads", c.num_heads, 1, 4096},
      {"num_key_value_heads", c.num_kv_heads, 1, c.num_heads},
      {"head_dim", c.head_dim, 2, 1024},
      {"vocab_size", c.vocab_size, 1, 1 << 24},
      {"max_position_embeddings", c.max_position, 1, 1 << 30},
      {"sliding_window", c.sliding_window, 0, INT32_MAX},
      {"rotary_dim", c.rope.rotary_dim, 2, c.head_dim},
  };
  for (const Bound& bound : bounds) {
    if (bound.value < bound.low || bound.value > bound.high) {
      return absl::InvalidArgumentError(absl::StrCat(
          bound.field, ": is ", bound.value, ", possible are ", bound.low, " to ", bound.high));
    }
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("num_key_value_heads: ", c.num_kv_heads,
                                                   " does not divide the ", c.num_heads,
                                                   " attention heads"));
  }
  // Kernels take inputs in pairs.
  if (c.hidden_size % 2 != 0 || c.intermediate_size % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("hidden_size: ", c.hidden_size,
                                                   " and intermediate_size ", c.intermediate_size,
                                                   " must be even"));
  }
  if (c.head_dim % 2 != 0 || c.rope.rotary_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("head_dim: ", c.head_dim, " and rotary_dim ",
                                                   c.rope.rotary_dim, " must be even"));
  }
  if (!(c.norm_eps > 0) || c.norm_eps > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("rms_norm_eps: is ", c.norm_eps, ", possible is (0, 1]"));
  }
  for (int32_t id : c.eos_ids) {
    if (id < 0) return absl::InvalidArgumentError(absl::StrCat("eos_token_id: is ", id));
    if (absl::Status status = InVocabulary("eos_token_id", id, c); !status.ok()) return status;
  }
  if (absl::Status status = InVocabulary("bos_token_id", c.bos_id, c); !status.ok()) return status;
  return InVocabulary("pad_token_id", c.pad_id, c);
}

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& c) {
  const int64_t d = c.hidden_size, f = c.intermediate_size;
  const int64_t q = int64_t{c.num_heads} * c.head_dim, kv = int64_t{c.num_kv_heads} * c.head_dim;
  std::vector<ExpectedTensor> out;
  out.push_back({"model.embed_tokens.weight", {c.vocab_size, d}});
  for (int32_t i = 0; i < c.num_layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    const std::string attn = layer + "self_attn.", mlp = layer + "mlp.";
    out.push_back({layer + "input_layernorm.weight", {d}});
    out.push_back({attn + "q_proj.weight", {q, d}});
    out.push_back({attn + "k_proj.weight", {kv, d}});
    out.push_back({attn + "v_proj.weight", {kv, d}});
    if (c.qkv_bias) {
      out.push_back({attn + "q_proj.bias", {q}});
      out.push_back({attn + "k_proj.bias", {kv}});
      out.push_back({attn + "v_proj.bias", {kv}});
    }
    if (c.qk_norm) {
      out.push_back({attn + "q_norm.weight", {c.head_dim}});
      out.push_back({attn + "k_norm.weight", {c.head_dim}});
    }
    out.push_back({attn + "o_proj.weight", {d, q}});
    if (c.output_bias) out.push_back({attn + "o_proj.bias", {d}});
    out.push_back({layer + "post_attention_layernorm.weight", {d}});
    out.push_back({mlp + "gate_proj.weight", {f, d}});
    out.push_back({mlp + "up_proj.weight", {f, d}});
    out.push_back({mlp + "down_proj.weight", {d, f}});
    if (c.mlp_bias) {
      out.push_back({mlp + "gate_proj.bias", {f}});
      out.push_back({mlp + "up_proj.bias", {f}});
      out.push_back({mlp + "down_proj.bias", {d}});
    }
  }
  out.push_back({"model.norm.weight", {d}});
  if (!c.tie_embeddings) out.push_back({"lm_head.weight", {c.vocab_size, d}});
  return out;
}

absl::Status CheckTensors(const ModelConfig& config, const std::vector<TensorInfo>& tensors) {
  TensorsByName by_name;
  for (const TensorInfo& info : tensors) {
    if (!by_name.emplace(info.name, &info).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", info.name, ": occurs twice"));
    }
  }
  // Cheap check before the list is built: a config that claims more layers than there are tensors
  // is refused early.
  if (static_cast<size_t>(config.num_layers) > tensors.size()) {
    return absl::InvalidArgumentError(absl::StrCat("num_hidden_layers: is ", config.num_layers,
                                                   ", but the file has ", tensors.size(),
                                                   " tensors"));
  }
  for (const ExpectedTensor& expected : ExpectedTensors(config)) {
    const auto found = by_name.find(expected.name);
    if (found == by_name.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", expected.name, ": is missing"));
    }
    const TensorInfo& info = *found->second;
    if (info.shape != expected.shape) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", expected.name, ": shape ",
                                                     Shape(info.shape), ", the config says ",
                                                     Shape(expected.shape)));
    }
    if (expected.shape.size() == 1 && !IsPlain(info.dtype)) {
      return absl::UnimplementedError(absl::StrCat("tensor ", expected.name, ": type ",
                                                   kernels::TraitsOf(info.dtype).name,
                                                   " is not supported for a vector"));
    }
    if (info.dtype == DType::kF8E4M3) {
      if (absl::Status status = CheckScale(by_name, expected); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace modu::engine
