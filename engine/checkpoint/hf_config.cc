#include "engine/checkpoint/hf_config.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/quantization_config.h"
#include "engine/checkpoint/rope_scaling.h"

namespace modu::engine {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kGenerationFile = "generation_config.json";

absl::Status Unsupported(const std::string& field, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(kConfigFile, ": ", field, ": ", what));
}

/// eos_token_id: absent, one id or a list. Adds what is not there yet.
void AddEosIds(JsonFields& fields, const Json& object, std::vector<int32_t>* ids) {
  const auto it = object.find("eos_token_id");
  if (it == object.end() || it->is_null()) return;
  const Json list = it->is_array() ? *it : Json::array({*it});
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return fields.Fail("eos_token_id", "must be a token id or a list of them");
    }
    const int32_t value = id.get<int32_t>();
    if (std::count(ids->begin(), ids->end(), value) == 0) ids->push_back(value);
  }
}

/// Older configs write -1 for "none".
int32_t TokenId(JsonFields& fields, const char* key) {
  return static_cast<int32_t>(fields.Int(key, -1, INT32_MAX).value_or(-1));
}

absl::Status ReadRope(JsonFields& config_fields, ModelConfig* config) {
  const Json* object = config_fields.Find("rope_parameters");
  if (object == nullptr) object = config_fields.Find("rope_scaling");
  const Json none = Json::object();
  if (object != nullptr && !object->is_object()) {
    config_fields.Fail("rope_parameters", "must be an object");
    return config_fields.status();
  }
  JsonFields fields(object == nullptr ? none : *object,
                    absl::StrCat(kConfigFile, ": rope_parameters"));
  if (fields.Find("full_attention") != nullptr || fields.Find("sliding_attention") != nullptr) {
    return Unsupported("rope_parameters", "one set for each kind of layer is not supported");
  }
  RopeScaling scaling;
  auto type = fields.String("rope_type");
  if (!type) type = fields.String("type");
  scaling.type = type.value_or("default");
  scaling.original_max_position =
      fields.Float("original_max_position_embeddings").value_or(config->max_position);
  const double ratio =
      scaling.original_max_position > 0 ? config->max_position / scaling.original_max_position : 0;
  const auto factor = fields.Float("factor");
  if (!factor && (scaling.type == "linear" || scaling.type == "llama3"))
    fields.Fail("factor", "is missing");
  scaling.factor = factor.value_or(ratio);
  scaling.low_freq_factor = fields.Float("low_freq_factor").value_or(1.0);
  scaling.high_freq_factor = fields.Float("high_freq_factor").value_or(4.0);
  scaling.beta_fast = fields.Float("beta_fast").value_or(32.0);
  scaling.beta_slow = fields.Float("beta_slow").value_or(1.0);
  scaling.truncate = fields.Bool("truncate").value_or(true);
  scaling.attention_factor = fields.Float("attention_factor");
  scaling.mscale = fields.Float("mscale");
  scaling.mscale_all_dim = fields.Float("mscale_all_dim");
  auto theta = fields.Float("rope_theta");
  if (!theta) theta = config_fields.Float("rope_theta");
  auto partial = fields.Float("partial_rotary_factor");
  if (!partial) partial = config_fields.Float("partial_rotary_factor");
  if (!fields.status().ok()) return fields.status();
  if (!config_fields.status().ok()) return config_fields.status();
  if (partial && !(*partial > 0 && *partial <= 1)) {
    config_fields.Fail("partial_rotary_factor", "must be in (0, 1]");
    return config_fields.status();
  }
  config->rope.theta = static_cast<float>(theta.value_or(10000.0));
  config->rope.rotary_dim = static_cast<int32_t>(config->head_dim * partial.value_or(1.0));
  if (absl::Status status = ApplyRopeScaling(scaling, &config->rope); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(kConfigFile, ": ", status.message()));
  }
  // A YaRN config may keep the trained length in max_position_embeddings; its context is factor
  // times that.
  if (scaling.type == "yarn") {
    const double extended = std::min(scaling.original_max_position * scaling.factor, 1073741824.0);
    config->max_position = std::max(config->max_position, static_cast<int32_t>(extended));
  }
  return absl::OkStatus();
}

/// Which layers slide: all, none, or those that layer_types or max_window_layers name.
absl::Status ReadWindow(JsonFields& fields, ModelConfig* config) {
  const auto window = static_cast<int32_t>(fields.Int("sliding_window", 0, INT32_MAX).value_or(0));
  if (config->architecture == "llama" || window == 0) return fields.status();
  const auto layers = static_cast<size_t>(config->num_layers);
  std::vector<int32_t> windows(layers, window);
  const auto use = fields.Bool("use_sliding_window");
  const bool qwen = config->architecture != "mistral";
  if (const Json* types = fields.Find("layer_types"); types != nullptr) {
    if (!types->is_array() || types->size() != layers) {
      fields.Fail("layer_types", absl::StrCat("must be a list of ", layers, " kinds"));
      return fields.status();
    }
    for (size_t i = 0; i < layers; ++i) {
      const Json& type = (*types)[i];
      if (type == "full_attention" || (qwen && !use.value_or(true))) windows[i] = 0;
      if (type == "full_attention" || type == "sliding_attention") continue;
      return Unsupported("layer_types",
                         "kinds other than full_attention and sliding_attention are not supported");
    }
  } else if (qwen) {
    const int64_t first = fields.Int("max_window_layers", 0, INT32_MAX).value_or(28);
    for (size_t i = 0; i < layers; ++i) {
      if (!use.value_or(false) || static_cast<int64_t>(i) < first) windows[i] = 0;
    }
  }
  if (!fields.status().ok()) return fields.status();
  const size_t full = std::count(windows.begin(), windows.end(), 0);
  if (full == 0) {
    config->sliding_window = window;
  } else if (full < layers) {
    config->layer_windows = std::move(windows);
  }
  return absl::OkStatus();
}

absl::Status ReadSizes(JsonFields& fields, ModelConfig* config) {
  const auto required = [&](const char* key, int64_t high) {
    const auto value = fields.Int(key, 1, high);
    if (!value) fields.Fail(key, "is missing");
    return static_cast<int32_t>(value.value_or(0));
  };
  config->hidden_size = required("hidden_size", 1 << 20);
  config->intermediate_size = required("intermediate_size", 1 << 22);
  config->num_layers = required("num_hidden_layers", 4096);
  config->num_heads = required("num_attention_heads", 4096);
  config->vocab_size = required("vocab_size", 1 << 24);
  config->max_position = required("max_position_embeddings", 1 << 30);
  if (!fields.status().ok()) return fields.status();
  config->num_kv_heads = static_cast<int32_t>(
      fields.Int("num_key_value_heads", 1, config->num_heads).value_or(config->num_heads));
  config->head_dim = static_cast<int32_t>(
      fields.Int("head_dim", 2, 1024).value_or(config->hidden_size / config->num_heads));
  config->norm_eps = static_cast<float>(fields.Float("rms_norm_eps").value_or(1e-6));
  config->tie_embeddings = fields.Bool("tie_word_embeddings").value_or(false);
  return fields.status();
}

absl::Status ReadVariant(JsonFields& fields, ModelConfig* config) {
  const std::string activation = fields.String("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish") {
    return Unsupported("hidden_act",
                       absl::StrCat("'", activation.substr(0, 64), "' is not supported (silu)"));
  }
  config->mlp_bias = config->architecture == "llama" && fields.Bool("mlp_bias").value_or(false);
  const bool attention_bias = fields.Bool("attention_bias").value_or(false);
  config->qk_norm = config->architecture == "qwen3";
  config->qkv_bias =
      config->architecture == "qwen2" || (config->architecture != "mistral" && attention_bias);
  config->output_bias =
      config->architecture != "qwen2" && config->architecture != "mistral" && attention_bias;
  return fields.status();
}

absl::Status ReadGeneration(const std::string& text, ModelConfig* config) {
  auto json = ParseJsonObject(text, kGenerationFile);
  if (!json.ok()) return json.status();
  JsonFields fields(*json, kGenerationFile);
  GenerationDefaults& out = config->generation;
  const auto number = [&](const char* key, double low, double high, float* field) {
    const auto value = fields.Float(key);
    if (!value) return;
    if (*value < low || *value > high)
      return fields.Fail(key, absl::StrCat("is ", *value, ", possible are ", low, " to ", high));
    *field = static_cast<float>(*value);
  };
  number("temperature", 0, 100, &out.temperature);
  number("top_p", 0, 1, &out.top_p);
  number("min_p", 0, 1, &out.min_p);
  number("repetition_penalty", 1e-6, 100, &out.repetition_penalty);
  out.top_k = static_cast<int32_t>(fields.Int("top_k", -1, INT32_MAX).value_or(-1));
  out.max_new_tokens =
      static_cast<int32_t>(fields.Int("max_new_tokens", 1, INT32_MAX).value_or(-1));
  AddEosIds(fields, *json, &config->eos_ids);
  if (const int32_t bos = TokenId(fields, "bos_token_id"); bos >= 0) config->bos_id = bos;
  if (const int32_t pad = TokenId(fields, "pad_token_id"); pad >= 0) config->pad_id = pad;
  return fields.status();
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromJson(const std::string& config_json,
                                           const std::string& generation_json) {
  auto json = ParseJsonObject(config_json, kConfigFile);
  if (!json.ok()) return json.status();
  JsonFields fields(*json, kConfigFile);
  ModelConfig config;
  config.architecture = fields.String("model_type").value_or("");
  config.name = fields.String("_name_or_path").value_or("");
  if (!fields.status().ok()) return fields.status();
  constexpr const char* kServed[] = {"llama", "mistral", "qwen2", "qwen3"};
  if (std::find(std::begin(kServed), std::end(kServed), config.architecture) == std::end(kServed)) {
    return Unsupported("model_type",
                       absl::StrCat("'", config.architecture.substr(0, 64),
                                    "' is not supported (llama, mistral, qwen2, qwen3)"));
  }
  if (absl::Status status = ReadSizes(fields, &config); !status.ok()) return status;
  if (absl::Status status = ReadVariant(fields, &config); !status.ok()) return status;
  if (absl::Status status = ReadWindow(fields, &config); !status.ok()) return status;
  if (absl::Status status = ReadRope(fields, &config); !status.ok()) return status;
  if (const Json* quantization = fields.Find("quantization_config")) {
    if (absl::Status status = CheckQuantizationConfig(*quantization); !status.ok()) return status;
  }
  config.bos_id = TokenId(fields, "bos_token_id");
  config.pad_id = TokenId(fields, "pad_token_id");
  if (!generation_json.empty()) {
    if (absl::Status status = ReadGeneration(generation_json, &config); !status.ok()) return status;
  }
  AddEosIds(fields, *json, &config.eos_ids);
  if (!fields.status().ok()) return fields.status();
  return config;
}

}  // namespace modu::engine
