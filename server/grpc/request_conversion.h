// Protobuf requests to the same fields, and through the same checks, as JSON's. Pure functions; any
// thread.
#pragma once
#include <vector>

#include "modu/v1/modu.pb.h"
#include "server/api/request_fields.h"

namespace modu::grpc_door {

api::Parsed<api::GenerationRequest> ToGenerationRequest(const modu::v1::ChatRequest& request,
                                                        const api::ServedModel& model,
                                                        const api::Limits& limits);
api::Parsed<api::GenerationRequest> ToGenerationRequest(const modu::v1::GenerateRequest& request,
                                                        const api::ServedModel& model,
                                                        const api::Limits& limits);
api::Parsed<api::Prompt> ToPrompt(const modu::v1::TokenizeRequest& request,
                                  const api::ServedModel& model, const api::Limits& limits);
api::Parsed<std::vector<int32_t>> ToTokenIds(const modu::v1::DetokenizeRequest& request,
                                             const api::ServedModel& model);

}  // namespace modu::grpc_door
