// What an engine can never do is refused at Submit, before anything is held. Pure function, any
// thread.
#pragma once
#include <cstdint>

#include "absl/status/status.h"
#include "engine/request/request.h"
#include "engine/runner/model_runner.h"

namespace modu::engine {

/// kInvalidArgument naming the field and the limit. The doors have validated already, with their
/// own limits; this one stands so that no caller's mistake can reach a kernel. max_kv_tokens: the
/// longest sequence that the KV pools can hold.
absl::Status ValidateRequest(const Request& request, const RunnerSpec& spec, int32_t max_kv_tokens);

}  // namespace modu::engine
