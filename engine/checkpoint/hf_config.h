// config.json and generation_config.json to ModelConfig, in the new spelling (rope_parameters,
// dtype, layer_types) and the older one (rope_theta and rope_scaling, torch_dtype). Pure functions
// of the texts.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/model_config.h"

namespace modu::engine {

/// `generation_json` may be empty. eos_ids is the union of both files. tokenizer_vocab_size is left
/// to the caller.
absl::StatusOr<ModelConfig> ConfigFromJson(const std::string& config_json,
                                           const std::string& generation_json);

}  // namespace modu::engine
