// `serve --check`: every weight of a model file is finite. One pass over the file before it is
// loaded, a tensor in memory at a time. Start-up thread.
#pragma once
#include <string>

#include "absl/status/status.h"

namespace modu::cli {

/// kInvalidArgument names the first tensor with a NaN or an infinity, its row and column, and how
/// many it has; otherwise OpenCheckpoint's and Read's errors.
absl::Status CheckWeightsFinite(const std::string& path);

}  // namespace modu::cli
