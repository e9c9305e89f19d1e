// JSON bodies to validated requests: strict reading (one object, depth, key and item budgets, no
// duplicate keys, valid UTF-8, byte offsets in syntax errors), then field by field, then Validate.
// A field that is not known is ignored and listed; one that is known but not supported is 400 by
// name. Pure functions, any thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "server/api/request_fields.h"

namespace modu::api {

/// POST /v1/chat/completions. `id` is left empty and `request_id` as the body had it: the door
/// fills both.
Parsed<GenerationRequest> ParseChatRequest(std::string_view body, const ServedModel& model,
                                           const Limits& limits);
/// POST /v1/completions.
Parsed<GenerationRequest> ParseCompletionRequest(std::string_view body, const ServedModel& model,
                                                 const Limits& limits);

struct TokenizeRequest {
  Prompt prompt;  // ChatPrompt or TextPrompt
  bool return_token_strs = false;
};
/// POST /tokenize: {"prompt"} or {"messages"}.
Parsed<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const ServedModel& model,
                                             const Limits& limits);

struct DetokenizeRequest {
  std::vector<int32_t> token_ids;
};
/// POST /detokenize: {"tokens": [...]}.
Parsed<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body, const ServedModel& model,
                                                 const Limits& limits);

/// POST /v1/chat/completions/render: a chat request of which only the prompt is made.
Parsed<ChatPrompt> ParseRenderRequest(std::string_view body, const ServedModel& model,
                                      const Limits& limits);

}  // namespace modu::api
