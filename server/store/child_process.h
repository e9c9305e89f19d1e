// Runs another program and waits for it. Its output goes to a file, from which failures are quoted.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace modu::store {

/// argv[0] is looked up in PATH; no shell. `tick` is called about ten times a second. kNotFound: no
/// such program; kUnavailable: it failed, with the last line that it wrote.
absl::Status RunChild(const std::vector<std::string>& argv, const std::string& log_path,
                      const std::function<void()>& tick);

}  // namespace modu::store
