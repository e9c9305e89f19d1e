// How a command gets its backend: `modu` gives kernels::OpenCpuDevice, a test's own server
// something else. Start-up thread.
#pragma once
#include <memory>

#include "kernels/device.h"

namespace modu::cli {

/// InvalidArgument where this machine cannot run the instruction set asked for.
using OpenDevice =
    absl::StatusOr<std::unique_ptr<kernels::Device>> (*)(const kernels::DeviceOptions& options);

}  // namespace modu::cli
