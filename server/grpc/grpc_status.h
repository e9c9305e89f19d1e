// An ApiError as a gRPC status: the one table's code, the same words, and google.rpc details in
// grpc-status-details-bin. Pure function.
#pragma once
#include "grpcpp/support/status.h"
#include "server/api/error.h"

namespace modu::grpc_door {

grpc::Status ToGrpcStatus(const api::ApiError& error);

}  // namespace modu::grpc_door
