// The readers name a file by its last part, since what they say may reach a client; who typed a
// command is told the whole path. Pure function.
#pragma once
#include <string>

#include "absl/status/status.h"

namespace modu::cli {

/// "PATH: what the error says"; for a single file its own name is not said twice.
absl::Status InModel(const std::string& path, const absl::Status& error);

}  // namespace modu::cli
