#include "engine/checkpoint/quantization_config.h"

#include "absl/strings/str_cat.h"

namespace modu::engine {
namespace {

absl::Status Unsupported(const std::string& field, const std::string& what) {
  return absl::UnimplementedError(
      absl::StrCat("config.json: quantization_config.", field, ": ", what));
}

/// One group of compressed-tensors: FP8 weights with one scale a tensor or a channel.
absl::Status CheckGroup(const std::string& name, const Json& group) {
  const auto weights = group.is_object() ? group.find("weights") : group.end();
  if (!group.is_object() || weights == group.end() || !weights->is_object()) {
    return Unsupported("config_groups", absl::StrCat(name, " has no weights"));
  }
  JsonFields fields(*weights, "config.json: quantization_config.config_groups");
  const std::string type = fields.String("type").value_or(""),
                    strategy = fields.String("strategy").value_or("tensor");
  const int64_t bits = fields.Int("num_bits", 1, 64).value_or(0);
  if (!fields.status().ok()) return fields.status();
  if (type != "float" || bits != 8) {
    return Unsupported("config_groups",
                       absl::StrCat("weights of ", bits, "-bit '", type.substr(0, 32),
                                    "' are not supported (8-bit float)"));
  }
  if (strategy != "tensor" && strategy != "channel") {
    return Unsupported("config_groups", absl::StrCat("strategy '", strategy.substr(0, 32),
                                                     "' is not supported (tensor, channel)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckQuantizationConfig(const Json& quantization) {
  if (!quantization.is_object()) {
    return absl::InvalidArgumentError("config.json: quantization_config: must be an object");
  }
  JsonFields fields(quantization, "config.json: quantization_config");
  const std::string method = fields.String("quant_method").value_or("");
  if (!fields.status().ok()) return fields.status();
  if (method == "compressed-tensors") {
    const Json* groups = fields.Find("config_groups");
    if (groups == nullptr) return absl::OkStatus();
    if (!groups->is_object()) return Unsupported("config_groups", "must be an object");
    for (const auto& [name, group] : groups->items()) {
      if (absl::Status status = CheckGroup(name.substr(0, 64), group); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  if (method == "fp8") {
    if (fields.Find("weight_block_size") != nullptr) {
      return Unsupported("weight_block_size",
                         "block scales are not supported (tensor and channel scales are)");
    }
    return absl::OkStatus();
  }
  if (method == "modelopt") {
    const Json* inner = fields.Find("quantization");
    JsonFields algo_fields(inner != nullptr && inner->is_object() ? *inner : quantization,
                           "config.json: quantization_config");
    const std::string algo = algo_fields.String("quant_algo").value_or("");
    if (!algo_fields.status().ok()) return algo_fields.status();
    if (algo == "FP8" || algo == "FP8_PER_CHANNEL_PER_TOKEN") return absl::OkStatus();
    return Unsupported("quant_algo",
                       absl::StrCat("'", algo.substr(0, 64), "' is not supported (FP8)"));
  }
  return Unsupported("quant_method",
                     absl::StrCat("'", method.substr(0, 64),
                                  "' is not supported (compressed-tensors, fp8, modelopt)"));
}

}  // namespace modu::engine
