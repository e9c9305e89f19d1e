// The REST ends of a running generation: one that streams server-sent events, one that gathers a
// whole answer. Called from text threads; they render and hand bytes to the exchange, and never
// block. A reader that keeps up gets an event for each delta; while it is behind, the deltas of a
// choice are joined to one.
#pragma once
#include <memory>

#include "server/api/response_json.h"
#include "server/generation/generation_service.h"
#include "server/http/exchange.h"

namespace modu::http {

/// `request` is read, not kept. The first delta or the acceptance opens the stream; an error before
/// that is a status.
std::shared_ptr<generation::ResponseSink> MakeStreamSink(std::shared_ptr<Exchange> exchange,
                                                         const api::GenerationRequest& request,
                                                         const api::Limits& limits,
                                                         api::AnswerHead head, bool chat);

std::shared_ptr<generation::ResponseSink> MakeAnswerSink(std::shared_ptr<Exchange> exchange,
                                                         const api::GenerationRequest& request,
                                                         api::AnswerHead head, bool chat);

}  // namespace modu::http
