#include "engine/checkpoint/gguf_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/rope_scaling.h"

namespace modu::engine {
namespace {

struct NamePair {
  const char* gguf;
  const char* hugging_face;
};

constexpr NamePair kLayerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

/// Metadata under the architecture's prefix. The first error sticks, so that a list of reads needs
/// one check.
class Hyperparameters {
 public:
  Hyperparameters(const GgufMetadata& metadata, std::string prefix)
      : metadata_(metadata), prefix_(std::move(prefix)) {}

  int32_t Required(const char* key, int64_t low, int64_t high) {
    const auto value = Optional(key, low, high);
    if (!value && status_.ok()) status_ = metadata_.Error(prefix_ + key, "is missing");
    return value.value_or(0);
  }
  std::optional<int32_t> Optional(const char* key, int64_t low, int64_t high) {
    auto value = metadata_.Int(prefix_ + key, low, high);
    if (!Keep(value.status()) || !*value) return std::nullopt;
    return static_cast<int32_t>(**value);
  }
  std::optional<double> Float(const char* key) {
    auto value = metadata_.Float(prefix_ + key);
    if (!Keep(value.status())) return std::nullopt;
    return *value;
  }
  std::optional<std::string> String(const char* key) {
    auto value = metadata_.String(prefix_ + key);
    if (!Keep(value.status())) return std::nullopt;
    return *value;
  }
  const absl::Status& status() const { return status_; }

 private:
  bool Keep(const absl::Status& status) {
    if (status_.ok() && !status.ok()) status_ = status;
    return status.ok();
  }
  const GgufMetadata& metadata_;
  const std::string prefix_;
  absl::Status status_;
};

RopeScaling ReadRopeScaling(Hyperparameters& h, int32_t context) {
  RopeScaling scaling;
  scaling.original_max_position = context;
  scaling.type = h.String("rope.scaling.type").value_or("none");
  if (scaling.type == "none") scaling.type = "default";
  scaling.factor = h.Float("rope.scaling.factor").value_or(1.0);
  if (const auto original = h.Optional("rope.scaling.original_context_length", 1, INT32_MAX)) {
    scaling.original_max_position = *original;
  }
  if (scaling.factor == 0) scaling.factor = 1;  // what writers put for "no scaling"
  scaling.beta_fast = h.Float("rope.scaling.yarn_beta_fast").value_or(32.0);
  scaling.beta_slow = h.Float("rope.scaling.yarn_beta_slow").value_or(1.0);
  // llama.cpp multiplies YaRN's own magnitude 0.1 ln(factor) + 1 with the stored attn_factor.
  if (const auto factor = h.Float("rope.scaling.attn_factor")) {
    scaling.attention_factor =
        *factor * (scaling.factor > 1 ? 0.1 * std::log(scaling.factor) + 1.0 : 1.0);
  }
  // Files before the scaling.* keys: one divisor.
  if (const auto linear = h.Float("rope.scale_linear");
      linear && scaling.type == "default" && *linear > 0) {
    scaling.type = "linear";
    scaling.factor = *linear;
  }
  return scaling;
}

absl::Status ReadRope(Hyperparameters& h, const GgufMetadata& metadata,
                      const std::vector<float>& rope_factors, ModelConfig* config) {
  config->rope.theta = static_cast<float>(h.Float("rope.freq_base").value_or(10000.0));
  config->rope.rotary_dim = h.Optional("rope.dimension_count", 2, 4096).value_or(config->head_dim);
  const RopeScaling scaling = ReadRopeScaling(h, config->max_position);
  if (!h.status().ok()) return h.status();
  absl::Status status = ApplyRopeScaling(scaling, &config->rope);
  if (!status.ok())
    return metadata.Error(config->architecture + ".rope", std::string(status.message()));
  if (rope_factors.empty()) return absl::OkStatus();
  if (rope_factors.size() != config->rope.inv_freq.size()) {
    return metadata.Error("rope_freqs.weight",
                          absl::StrCat("has ", rope_factors.size(), " factors for ",
                                       config->rope.inv_freq.size(), " frequencies"));
  }
  for (size_t i = 0; i < rope_factors.size(); ++i) {
    if (!(rope_factors[i] > 0) || !std::isfinite(rope_factors[i])) {
      return metadata.Error("rope_freqs.weight", "has a factor that is not above 0");
    }
    config->rope.inv_freq[i] /= rope_factors[i];
  }
  return absl::OkStatus();
}

absl::Status ReadGenerationDefaults(const GgufMetadata& metadata, GenerationDefaults* out) {
  const std::string prefix = "general.sampling.";
  const std::pair<const char*, float*> floats[] = {{"temp", &out->temperature},
                                                   {"top_p", &out->top_p},
                                                   {"min_p", &out->min_p},
                                                   {"penalty_repeat", &out->repetition_penalty}};
  for (const auto& [key, field] : floats) {
    auto value = metadata.Float(prefix + key);
    if (!value.ok()) return value.status();
    if (*value) *field = static_cast<float>(**value);
  }
  auto top_k = metadata.Int(prefix + "top_k", 0, INT32_MAX);
  if (!top_k.ok()) return top_k.status();
  if (*top_k) out->top_k = static_cast<int32_t>(**top_k);
  return absl::OkStatus();
}

const GgufTensor* FindTensor(const GgufContents& contents, const std::string& name) {
  for (const GgufTensor& tensor : contents.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

absl::Status ReadTokenIds(const GgufMetadata& metadata, ModelConfig* config) {
  const auto read = [&](const char* key) -> absl::StatusOr<int32_t> {
    auto id = metadata.Int(key, 0, int64_t{config->vocab_size} - 1);
    if (!id.ok()) return id.status();
    return *id ? static_cast<int32_t>(**id) : -1;
  };
  auto bos = read("tokenizer.ggml.bos_token_id");
  auto pad = read("tokenizer.ggml.padding_token_id");
  if (!bos.ok()) return bos.status();
  if (!pad.ok()) return pad.status();
  config->bos_id = *bos;
  config->pad_id = *pad;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    auto id = read(key);
    if (!id.ok()) return id.status();
    if (*id >= 0 && std::count(config->eos_ids.begin(), config->eos_ids.end(), *id) == 0) {
      config->eos_ids.push_back(*id);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadVocabulary(Hyperparameters& h, const GgufContents& contents, ModelConfig* config) {
  const GgufMetadata& metadata = contents.metadata;
  const GgufTensor* table = FindTensor(contents, "token_embd.weight");
  if (table == nullptr || table->shape.size() != 2) {
    return metadata.Error("token_embd.weight", "the tensor is missing or no matrix");
  }
  const GgufValue* tokens = metadata.Find("tokenizer.ggml.tokens");
  const uint64_t num_tokens = tokens == nullptr ? 0 : tokens->strings.size();
  const auto stated = h.Optional("vocab_size", 1, 1 << 24);
  if (!h.status().ok()) return h.status();
  if (table->shape[0] > (1 << 24) || (stated && *stated != table->shape[0])) {
    return metadata.Error(
        config->architecture + ".vocab_size",
        absl::StrCat("does not fit the ", table->shape[0], " rows of token_embd.weight"));
  }
  config->vocab_size = static_cast<int32_t>(table->shape[0]);
  if (num_tokens > static_cast<uint64_t>(config->vocab_size)) {
    return metadata.Error(
        "tokenizer.ggml.tokens",
        absl::StrCat("has ", num_tokens, " tokens for ", config->vocab_size, " embedding rows"));
  }
  config->tokenizer_vocab_size = static_cast<int32_t>(num_tokens);
  return ReadTokenIds(metadata, config);
}

}  // namespace

std::string HuggingFaceName(const std::string& name) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  if (name.rfind("blk.", 0) != 0) return name;
  size_t at = 4;
  while (at < name.size() && std::isdigit(static_cast<unsigned char>(name[at])) != 0) ++at;
  const size_t dot = name.rfind('.');
  if (at == 4 || name[at] != '.' || dot <= at) return name;
  const std::string kind = name.substr(at + 1, dot - at - 1), suffix = name.substr(dot);
  for (const NamePair& pair : kLayerNames) {
    if (kind == pair.gguf)
      return absl::StrCat("model.layers.", name.substr(4, at - 4), ".", pair.hugging_face, suffix);
  }
  return name;
}

absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufContents& contents,
                                           const std::vector<float>& rope_factors) {
  const GgufMetadata& metadata = contents.metadata;
  ModelConfig config;
  auto architecture = metadata.String("general.architecture");
  auto name = metadata.String("general.name");
  if (!architecture.ok()) return architecture.status();
  if (!name.ok()) return name.status();
  if (!*architecture) return metadata.Error("general.architecture", "is missing");
  config.architecture = **architecture;
  config.name = name->value_or("");
  if (config.architecture != "llama" && config.architecture != "qwen2" &&
      config.architecture != "qwen3") {
    return absl::UnimplementedError(std::string(
        metadata
            .Error("general.architecture", absl::StrCat("'", config.architecture.substr(0, 64),
                                                        "' is not supported (llama, qwen2, qwen3)"))
            .message()));
  }
  Hyperparameters h(metadata, config.architecture + ".");
  config.num_layers = h.Required("block_count", 1, 4096);
  config.max_position = h.Required("context_length", 1, 1 << 30);
  config.hidden_size = h.Required("embedding_length", 1, 1 << 20);
  config.intermediate_size = h.Required("feed_forward_length", 1, 1 << 22);
  config.num_heads = h.Required("attention.head_count", 1, 4096);
  config.num_kv_heads = h.Optional("attention.head_count_kv", 1, std::max(1, config.num_heads))
                            .value_or(config.num_heads);
  config.sliding_window = h.Optional("attention.sliding_window", 0, INT32_MAX).value_or(0);
  const auto key_length = h.Optional("attention.key_length", 1, 1024);
  const auto value_length = h.Optional("attention.value_length", 1, 1024);
  const auto eps = h.Float("attention.layer_norm_rms_epsilon");
  if (h.Optional("expert_count", 0, INT32_MAX).value_or(0) > 0) {
    return absl::UnimplementedError(std::string(
        metadata
            .Error(config.architecture + ".expert_count", "mixtures of experts are not supported")
            .message()));
  }
  if (!h.status().ok()) return h.status();
  if (!eps)
    return metadata.Error(config.architecture + ".attention.layer_norm_rms_epsilon", "is missing");
  config.norm_eps = static_cast<float>(*eps);
  config.head_dim = key_length.value_or(config.hidden_size / config.num_heads);
  if (value_length.value_or(config.head_dim) != config.head_dim) {
    return metadata.Error(config.architecture + ".attention.value_length",
                          "differs from the key length");
  }
  if (absl::Status status = ReadRope(h, metadata, rope_factors, &config); !status.ok())
    return status;
  if (absl::Status status = ReadVocabulary(h, contents, &config); !status.ok()) return status;
  if (absl::Status status = ReadGenerationDefaults(metadata, &config.generation); !status.ok())
    return status;
  config.tie_embeddings = FindTensor(contents, "output.weight") == nullptr;
  config.qkv_bias = FindTensor(contents, "blk.0.attn_q.bias") != nullptr;
  config.output_bias = FindTensor(contents, "blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = FindTensor(contents, "blk.0.ffn_down.bias") != nullptr;
  config.qk_norm = FindTensor(contents, "blk.0.attn_q_norm.weight") != nullptr;
  return config;
}

absl::StatusOr<TokenizerFiles> TokenizerFromGguf(const GgufMetadata& metadata) {
  TokenizerFiles files;
  files.from_gguf = true;
  absl::Status status;
  const auto keep = [&](auto value, auto* field) {
    if (!value.ok()) {
      if (status.ok()) status = value.status();
    } else {
      *field = *std::move(value);
    }
  };
  const auto text = [&](const char* key, std::string* field) {
    std::optional<std::string> value;
    keep(metadata.String(key), &value);
    *field = std::move(value).value_or("");
  };
  text("tokenizer.ggml.model", &files.model);
  text("tokenizer.ggml.pre", &files.pre);
  text("tokenizer.chat_template", &files.chat_template);
  keep(metadata.Strings("tokenizer.ggml.tokens"), &files.tokens);
  keep(metadata.Strings("tokenizer.ggml.merges"), &files.merges);
  keep(metadata.Floats("tokenizer.ggml.scores"), &files.scores);
  keep(metadata.Ints("tokenizer.ggml.token_type"), &files.token_types);
  keep(metadata.Bool("tokenizer.ggml.add_bos_token"), &files.add_bos);
  keep(metadata.Bool("tokenizer.ggml.add_eos_token"), &files.add_eos);
  keep(metadata.Bool("tokenizer.ggml.add_space_prefix"), &files.add_space_prefix);
  const auto last_id = static_cast<int64_t>(files.tokens.size()) - 1;
  const std::pair<const char*, int32_t*> ids[] = {
      {"tokenizer.ggml.bos_token_id", &files.bos_id},
      {"tokenizer.ggml.eos_token_id", &files.eos_id},
      {"tokenizer.ggml.unknown_token_id", &files.unk_id},
      {"tokenizer.ggml.padding_token_id", &files.pad_id}};
  for (const auto& [key, field] : ids) {
    if (files.tokens.empty()) break;
    std::optional<int64_t> id;
    keep(metadata.Int(key, 0, last_id), &id);
    if (id) *field = static_cast<int32_t>(*id);
  }
  if (!status.ok()) return status;
  if (!files.scores.empty() && files.scores.size() != files.tokens.size()) {
    return metadata.Error(
        "tokenizer.ggml.scores",
        absl::StrCat("has ", files.scores.size(), " entries for ", files.tokens.size(), " tokens"));
  }
  if (!files.token_types.empty() && files.token_types.size() != files.tokens.size()) {
    return metadata.Error("tokenizer.ggml.token_type",
                          absl::StrCat("has ", files.token_types.size(), " entries for ",
                                       files.tokens.size(), " tokens"));
  }
  return files;
}

}  // namespace modu::engine
