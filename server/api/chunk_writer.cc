// Answers that stream: one server-sent event after the other.
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
}

void ChunkWriter::Head(std::string* out) const { *out += prefix_; }

void ChunkWriter::Tail(const Usage& so_far, std::string* out) const {
  *out += ']';
  if (continuous_usage_) {
    *out += ",\"usage\":";
    AppendUsage(so_far, out);
  } else if (include_usage_) {
    *out += ",\"usage\":null";
  }
  *out += kEnd;
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
  *out += ",\"finish_reason\":null}";
  Tail(Usage{static_cast<int32_t>(echo.token_ids.size()), 0, 0}, out);
}

void ChunkWriter::Delta(const ChoiceDelta& delta, const Usage& so_far, std::string* out) {
  ChoiceState& state = choices_.at(static_cast<size_t>(delta.index));
  const bool first = !state.started;
  if (first && chat_) {
    Head(out);
    *out += "{\"index\":";
    AppendNumber(delta.index, out);
    *out +=
        ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":"
        "null";
    const size_t prompt = static_cast<size_t>(delta.index) / static_cast<size_t>(n_);
    if (return_token_ids_ && prompt < prompt_ids_.size()) {
      *out += ",\"prompt_token_ids\":";
      AppendIds(prompt_ids_[prompt], out);
    }
    *out += '}';
    Tail(so_far, out);
  }
  state.started = true;
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
    if (first && !chat_) {
      const size_t prompt = static_cast<size_t>(delta.index) / static_cast<size_t>(n_);
      if (prompt < prompt_ids_.size()) {
        *out += ",\"prompt_token_ids\":";
        AppendIds(prompt_ids_[prompt], out);
      }
    }
    *out += ",\"token_ids\":";
    AppendIds(delta.token_ids, out);
  }
  *out += '}';
  Tail(so_far, out);
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
