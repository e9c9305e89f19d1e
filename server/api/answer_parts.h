// The parts that a whole answer and a streamed chunk have in common, as JSON text. Pure functions.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "server/api/generation_events.h"
#include "server/api/response_json.h"

namespace modu::api {

/// {"id":...,"object":...,"created":...,"model":... , open for more.
void AppendHead(const AnswerHead& head, const char* object, std::string* out);
/// {"content":[...],"refusal":null}, as chat has it.
void AppendChatLogprobs(const std::vector<TokenLogprobs>& logprobs, bool as_id, std::string* out);
/// {tokens, token_logprobs, top_logprobs, text_offset}, as completions have it; offsets count code
/// points from *offset on.
void AppendCompletionLogprobs(const std::vector<const std::vector<TokenLogprobs>*>& parts,
                              bool as_id, int64_t* offset, std::string* out);
/// ,"finish_reason":...,"stop_reason":...
void AppendFinish(Finish finish, const std::string& stop_string, int32_t stop_token_id,
                  std::string* out);
void AppendUsage(const Usage& usage, std::string* out);
/// Within a stream, where what was cached is not known yet.
void AppendUsageSoFar(const Usage& usage, std::string* out);

}  // namespace modu::api
