// What the table's bounds cannot say of a Config: items of lists, numbers with a gap, settings that
// go together. Pure functions.
#pragma once
#include "absl/status/status.h"
#include "server/config/config.h"

namespace modu::config {

/// kInvalidArgument names the setting and what it may be.
absl::Status CheckBeyondBounds(const Config& config);

}  // namespace modu::config
