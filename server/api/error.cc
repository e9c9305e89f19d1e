#include "server/api/error.h"

#include <utility>

namespace modu::api {
namespace {

struct Mapping {
  int http_status;
  const char* type;
  absl::StatusCode code;
};

// HTTP status, OpenAI's error type, gRPC code. The first row with an HTTP status gives the type for
// it.
constexpr Mapping kTable[] = {
    {400, "invalid_request_error", absl::StatusCode::kInvalidArgument},
    {401, "authentication_error", absl::StatusCode::kUnauthenticated},
    {403, "permission_error", absl::StatusCode::kPermissionDenied},
    {404, "not_found_error", absl::StatusCode::kNotFound},
    {405, "invalid_request_error", absl::StatusCode::kUnimplemented},
    {408, "timeout_error", absl::StatusCode::kDeadlineExceeded},
    {409, "conflict_error", absl::StatusCode::kAborted},
    {413, "invalid_request_error", absl::StatusCode::kResourceExhausted},
    {415, "invalid_request_error", absl::StatusCode::kInvalidArgument},
    {429, "rate_limit_error", absl::StatusCode::kResourceExhausted},
    {499, "request_cancelled", absl::StatusCode::kCancelled},
    {500, "server_error", absl::StatusCode::kInternal},
    {501, "not_supported_error", absl::StatusCode::kUnimplemented},
    {503, "unavailable_error", absl::StatusCode::kUnavailable},
    {504, "timeout_error", absl::StatusCode::kDeadlineExceeded},
};

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

}  // namespace

ApiError InvalidField(std::string param, std::string message, std::string code) {
  return MakeError(400, std::move(message), std::move(code), std::move(param));
}

ApiError ContextLengthExceeded(std::string param, int64_t context, const std::string& requested,
                               bool by_prompt_alone) {
  return InvalidField(std::move(param),
                      "This model's maximum context length is " + std::to_string(context) +
                          " tokens. However, you requested " + requested +
                          ". Please reduce the length of the prompt" +
                          (by_prompt_alone ? "." : " or of the output."),
                      "context_length_exceeded");
}

ApiError MakeError(int http_status, std::string message, std::string code, std::string param) {
  ApiError error;
  error.http_status = http_status;
  error.message = std::move(message);
  error.code = std::move(code);
  error.param = std::move(param);
  error.type = http_status < 500 ? "invalid_request_error" : "server_error";
  for (const Mapping& row : kTable) {
    if (row.http_status == http_status) error.type = row.type;
  }
  return error;
}

ApiError FromStatus(const absl::Status& status) {
  const int http_status = HttpStatusOf(status.code());
  // What went wrong inside is for the log; a client learns only that it did.
  if (http_status == 500) return MakeError(500, "internal error", "internal_error");
  ApiError error = MakeError(http_status, std::string(status.message()));
  if (http_status == 503) error.retry_after_s = 1;
  return error;
}

absl::StatusCode GrpcCodeOf(const ApiError& error) {
  for (const Mapping& row : kTable) {
    if (row.http_status == error.http_status) return row.code;
  }
  if (error.http_status >= 400 && error.http_status < 500)
    return absl::StatusCode::kInvalidArgument;
  return absl::StatusCode::kInternal;
}

}  // namespace modu::api
