// Answers that do not stream: gathered, then written once.
#include <utility>

#include "server/api/answer_parts.h"
#include "server/api/json_text.h"
#include "server/api/response_json.h"

namespace modu::api {

AnswerBuilder::AnswerBuilder(AnswerHead head, const GenerationRequest& request, bool chat)
    : head_(std::move(head)),
      chat_(chat),
      logprobs_(request.sampling.top_logprobs >= 0),
      echo_(request.echo),
      return_token_ids_(request.return_token_ids),
      tokens_as_ids_(request.return_tokens_as_token_ids),
      n_(request.n),
      choices_(request.prompts.size() * static_cast<size_t>(request.n)) {}

void AnswerBuilder::Accepted(const std::vector<std::vector<int32_t>>& prompt_ids) {
  if (return_token_ids_) prompt_ids_ = prompt_ids;
}

void AnswerBuilder::Echo(PromptEcho echo) {
  ChoiceAnswer& choice = choices_.at(static_cast<size_t>(echo.index));
  bytes_ += static_cast<int64_t>(echo.text.size() + echo.logprobs.size() * sizeof(TokenLogprobs));
  choice.echo = std::move(echo);
}

void AnswerBuilder::Delta(ChoiceDelta delta) {
  ChoiceAnswer& choice = choices_.at(static_cast<size_t>(delta.index));
  bytes_ += static_cast<int64_t>(delta.text.size() + delta.token_ids.size() * sizeof(int32_t) +
                                 delta.logprobs.size() * sizeof(TokenLogprobs));
  choice.text += delta.text;
  if (return_token_ids_) {
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  }
  for (TokenLogprobs& one : delta.logprobs) choice.logprobs.push_back(std::move(one));
  if (delta.finish != Finish::kNone) {
    choice.finish = delta.finish;
    choice.stop_string = std::move(delta.stop_string);
    choice.stop_token_id = delta.stop_token_id;
  }
}

std::string AnswerBuilder::Finish(const Usage& usage) const {
  std::string out;
  out.reserve(static_cast<size_t>(bytes_) + 512);
  AppendHead(head_, chat_ ? "chat.completion" : "text_completion", &out);
  out += ",\"choices\":[";
  for (size_t i = 0; i < choices_.size(); ++i) {
    const ChoiceAnswer& choice = choices_[i];
    if (i) out += ',';
    out += "{\"index\":";
    AppendNumber(static_cast<int64_t>(i), &out);
    if (chat_) {
      out += ",\"message\":{\"role\":\"assistant\",\"content\":";
      AppendJsonString(choice.text, &out);
      out += ",\"refusal\":null}";
    } else {
      out += ",\"text\":";
      AppendJsonString(echo_ ? choice.echo.text + choice.text : choice.text, &out);
    }
    out += ",\"logprobs\":";
    if (!logprobs_) {
      out += "null";
    } else if (chat_) {
      AppendChatLogprobs(choice.logprobs, tokens_as_ids_, &out);
    } else {
      int64_t offset = 0;
      AppendCompletionLogprobs({&choice.echo.logprobs, &choice.logprobs}, tokens_as_ids_, &offset,
                               &out);
    }
    AppendFinish(choice.finish, choice.stop_string, choice.stop_token_id, &out);
    if (return_token_ids_) {
      const size_t prompt = i / static_cast<size_t>(n_);
      if (prompt < prompt_ids_.size()) {
        out += ",\"prompt_token_ids\":";
        AppendIds(prompt_ids_[prompt], &out);
      }
      out += ",\"token_ids\":";
      AppendIds(choice.token_ids, &out);
    }
    out += '}';
  }
  out += "],\"usage\":";
  AppendUsage(usage, &out);
  if (chat_ && return_token_ids_ && !prompt_ids_.empty()) {  // vLLM's place for it
    out += ",\"prompt_token_ids\":";
    AppendIds(prompt_ids_.front(), &out);
  }
  out += '}';
  return out;
}

}  // namespace modu::api
