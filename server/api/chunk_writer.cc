// Answers that stream: one server-sent event after the other.
#include <utility>

#include "server/api/answer_parts.h"
#include "server/api/json_text.h"
#include "server/api/response_json.h"

namespace modu::api {
namespace {

constexpr char kEnd[] = "}\n\n";

}  // namespace

ChunkWriter::ChunkWriter(AnswerHead head, const GenerationRequest& request, bool chat)
    : chat_(chat),
      logprobs_(request.sampling.top_logprobs >= 0),
      return_token_ids_(request.return_token_ids),
      tokens_as_ids_(request.return_tokens_as_token_ids),
      include_usage_(request.include_usage),
      continuous_usage_(request.continuous_usage),
      n_(request.n),
      choices_(request.prompts.size() * static_cast<size_t>(request.n)) {
  prefix_ = "data: ";
  AppendHead(head, chat ? "chat.completion.chunk" : "text_completion", &prefix_);
  prefix_ += ",\"choices\":[";
}

void ChunkWriter::Accepted(const std::vector<std::vector<int32_t>>& prompt_ids) {
  if (return_token_ids_) prompt_ids_ = prompt_ids;
  for (const auto& ids : prompt_ids) so_far_.prompt_tokens += static_cast<int32_t>(ids.size());
}

void ChunkWriter::Head(std::string* out) const { *out += prefix_; }

void ChunkWriter::Tail(std::string* out) const {
  *out += ']';
  if (continuous_usage_) {
    *out += ",\"usage\":";
    AppendUsageSoFar(so_far_, out);
  } else if (include_usage_) {
    *out += ",\"usage\":null";
  }
  *out += kEnd;
}

void ChunkWriter::PromptIds(int32_t index, std::string* out) {
  if (!return_token_ids_) return;
  ChoiceState& state = choices_.at(static_cast<size_t>(index));
  const size_t prompt = static_cast<size_t>(index) / static_cast<size_t>(n_);
  if (std::exchange(state.said_prompt, true) || prompt >= prompt_ids_.size()) return;
  *out += ",\"prompt_token_ids\":";
  AppendIds(prompt_ids_[prompt], out);
}

void ChunkWriter::Echo(const PromptEcho& echo, std::string* out) {
  ChoiceState& state = choices_.at(static_cast<size_t>(echo.index));
  Head(out);
  *out += "{\"index\":";
  AppendNumber(echo.index, out);
  *out += ",\"text\":";
  AppendJsonString(echo.text, out);
  *out += ",\"logprobs\":";
  if (logprobs_) {
    AppendCompletionLogprobs({&echo.logprobs}, tokens_as_ids_, &state.text_offset, out);
  } else {
    *out += "null";
  }
  *out += ",\"finish_reason\":null";
  PromptIds(echo.index, out);
  if (return_token_ids_) *out += ",\"token_ids\":[]";
  *out += '}';
  Tail(out);
}

void ChunkWriter::Delta(const ChoiceDelta& delta, const Usage& so_far, std::string* out) {
  ChoiceState& state = choices_.at(static_cast<size_t>(delta.index));
  so_far_ = so_far;
  if (!std::exchange(state.started, true) && chat_) {
    Head(out);
    *out += "{\"index\":";
    AppendNumber(delta.index, out);
    *out +=
        ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":"
        "null";
    PromptIds(delta.index, out);
    *out += '}';
    Tail(out);
  }
  const bool says_tokens =
      (return_token_ids_ && !delta.token_ids.empty()) || (logprobs_ && !delta.logprobs.empty());
  if (delta.text.empty() && !says_tokens && delta.finish == api::Finish::kNone) return;
  Head(out);
  *out += "{\"index\":";
  AppendNumber(delta.index, out);
  if (chat_) {
    if (delta.text.empty()) {
      *out += ",\"delta\":{}";
    } else {
      *out += ",\"delta\":{\"content\":";
      AppendJsonString(delta.text, out);
      *out += '}';
    }
  } else {
    *out += ",\"text\":";
    AppendJsonString(delta.text, out);
  }
  *out += ",\"logprobs\":";
  if (!logprobs_ || delta.logprobs.empty()) {
    *out += "null";
  } else if (chat_) {
    AppendChatLogprobs(delta.logprobs, tokens_as_ids_, out);
  } else {
    AppendCompletionLogprobs({&delta.logprobs}, tokens_as_ids_, &state.text_offset, out);
  }
  AppendFinish(delta.finish, delta.stop_string, delta.stop_token_id, out);
  if (return_token_ids_) {
    PromptIds(delta.index, out);
    *out += ",\"token_ids\":";
    AppendIds(delta.token_ids, out);
  }
  *out += '}';
  Tail(out);
}

void ChunkWriter::Finish(const Usage& usage, std::string* out) {
  if (include_usage_) {
    Head(out);
    *out += "],\"usage\":";
    AppendUsage(usage, out);
    *out += kEnd;
  }
  *out += "data: [DONE]\n\n";
}

void ChunkWriter::Error(const ApiError& error, std::string* out) {
  *out += "data: ";
  *out += ErrorJson(error);
  *out += "\n\ndata: [DONE]\n\n";
}

}  // namespace modu::api
