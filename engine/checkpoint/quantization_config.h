// config.json's quantization_config: which schemes the tensors may be in. Only FP8 with tensor or
// channel scales is served; everything else is refused by name before any tensor is read. Only .cc
// files of engine/checkpoint include this.
#pragma once
#include "absl/status/status.h"
#include "engine/checkpoint/json_fields.h"

namespace modu::engine {

absl::Status CheckQuantizationConfig(const Json& quantization);

}  // namespace modu::engine
