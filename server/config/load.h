// Builds the Config: defaults, then the YAML file, then the command line. Nothing listens before
// this has succeeded.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace modu::config {

/// arguments: what stands after `modu serve`: flags (`--port 80`, `--port=80`, `--prefix-cache`,
/// `--no-prefix-cache`),
/// `--config FILE`, and at most one MODEL. kInvalidArgument names the flag or key and its bounds;
/// the file by its name.
absl::StatusOr<Config> LoadConfig(const std::vector<std::string>& arguments);

/// The grouped text of `modu serve --help`.
std::string HelpText();

}  // namespace modu::config
