// One error type for both doors and one table that maps it: status code to HTTP status, OpenAI type
// and gRPC code. Messages name the field and the limit; no path, address or key.
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace modu::api {

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string type;       // "invalid_request_error", "authentication_error", "rate_limit_error",
                          // "server_error", ...
  std::string param;      // the field, or ""
  std::string code;       // "context_length_exceeded", "queue_full", ... or ""
  int retry_after_s = 0;  // > 0: a Retry-After header
};

ApiError InvalidField(std::string param, std::string message, std::string code = "");
/// 400 context_length_exceeded. `requested` is what came: "300 tokens in the prompt".
/// `by_prompt_alone`: a shorter output would not help.
ApiError ContextLengthExceeded(std::string param, int64_t context, const std::string& requested,
                               bool by_prompt_alone);
/// The type follows from the status.
ApiError MakeError(int http_status, std::string message, std::string code = "",
                   std::string param = "");
ApiError FromStatus(const absl::Status& status);
absl::StatusCode GrpcCodeOf(const ApiError& error);  // absl and gRPC share their numbering

}  // namespace modu::api
