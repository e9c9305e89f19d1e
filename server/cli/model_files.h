// What the doors are told of a model, out of its files: names, limits, tokenizer, chat template.
// Start-up thread.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "engine/runner/load_model.h"
#include "server/api/served_model.h"
#include "server/config/config.h"

namespace modu::cli {

/// `loaded` has its config, its tokenizer's files and its runner. Errors are the tokenizer's and
/// the template's.
absl::StatusOr<api::ServedModel> ServedModelOf(const config::Config& config,
                                               const std::string& path,
                                               const engine::LoadedModel& loaded);

}  // namespace modu::cli
