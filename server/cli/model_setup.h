// From a Config to a model ready to serve: device, weights, KV size, tokenizer, template. Start-up
// thread.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/runner/load_model.h"
#include "server/api/served_model.h"
#include "server/cli/open_device.h"
#include "server/config/config.h"

namespace modu::cli {

struct ModelSetup {
  engine::LoadedModel loaded;
  api::ServedModel served;
  int max_step_tokens = 0;
  std::string kv_dtype;  // what --kv-dtype auto came to: f32, bf16
};

/// Errors name the setting or the file's key; `path` has been resolved by server/store; `clock`
/// measures a step's stages.
absl::StatusOr<ModelSetup> SetUpModel(const config::Config& config, const std::string& path,
                                      OpenDevice open_device, const engine::Clock* clock);

}  // namespace modu::cli
