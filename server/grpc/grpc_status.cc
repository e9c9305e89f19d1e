#include "server/grpc/grpc_status.h"

#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace modu::grpc_door {

grpc::Status ToGrpcStatus(const api::ApiError& error) {
  const auto code = static_cast<grpc::StatusCode>(api::GrpcCodeOf(error));
  google::rpc::Status status;
  status.set_code(static_cast<int>(code));
  status.set_message(error.message);
  google::rpc::ErrorInfo info;
  info.set_reason(error.code.empty() ? error.type : error.code);
  info.set_domain("modu");
  status.add_details()->PackFrom(info);
  if (!error.param.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(error.param);
    violation->set_description(error.message);
    status.add_details()->PackFrom(bad);
  }
  if (error.retry_after_s > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(error.retry_after_s);
    status.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, error.message, status.SerializeAsString());
}

}  // namespace modu::grpc_door
