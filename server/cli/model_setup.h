// From a Config to a model ready to serve: device, weights, KV size, tokenizer, template. Start-up
// thread.
#pragma once
#include <functional>
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
  std::string kv_dtype;  // what --kv-dtype auto came to: f32, bf16, int8, fp8
};

/// How a command gets its model, from a path that server/store has resolved: `modu` has one on its
/// device, a benchmark one that computes nothing. `clock` measures a step's stages. Errors name the
/// setting or the file's key.
using ModelSource = std::function<absl::StatusOr<ModelSetup>(
    const config::Config& config, const std::string& path, const engine::Clock* clock)>;

ModelSource ModelOn(OpenDevice open_device);

}  // namespace modu::cli
