#include "server/generation/choice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace modu::generation {
namespace {

// The bytes at the end of `text` that may be the beginning of a character.
std::string_view IncompleteTail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto c = static_cast<unsigned char>(text[text.size() - back]);
    if ((c & 0xC0) == 0x80) continue;
    const size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC2 ? 2 : 1;
    return length > back ? text.substr(text.size() - back) : std::string_view();
  }
  return {};
}

}  // namespace

Choice::Choice(int32_t index, const api::GenerationRequest* request, const api::ServedModel* model,
               int32_t min_tokens)
    : index_(index),
      request_(*request),
      model_(*model),
      min_tokens_(request->stop.empty() ? 0 : min_tokens),
      watching_stops_(min_tokens_ == 0) {
  delta_.index = index;
  if (model_.tokenizer == nullptr) return;
  stream_ = std::make_unique<text::TextStream>(
      watching_stops_ ? request_.stop : std::vector<std::string>(),
      request_.include_stop_str_in_output);
}

api::LogprobEntry Choice::Entry(int32_t token_id, float logprob, bool skip_special) const {
  api::LogprobEntry entry;
  entry.token_id = token_id;
  entry.logprob = logprob;
  if (model_.tokenizer != nullptr)
    entry.bytes = model_.tokenizer->TokenBytes(token_id, skip_special);
  return entry;
}

// The engine masks these ids before min_tokens, so one that comes ends the choice.
bool Choice::Stops(int32_t token_id) const {
  const auto has = [token_id](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token_id) != ids.end();
  };
  return (!request_.sampling.ignore_eos && has(model_.eos_ids)) ||
         has(request_.sampling.stop_token_ids);
}

bool Choice::PushText(const std::string& bytes) {
  if (!watching_stops_) {
    if (num_tokens_ > min_tokens_) {
      // From here on stop strings count. What the first stream held of a character goes to the
      // second.
      watching_stops_ = true;
      stream_ =
          std::make_unique<text::TextStream>(request_.stop, request_.include_stop_str_in_output);
      stream_->Push(tail_);
    } else {
      tail_ += bytes;
      tail_ = std::string(IncompleteTail(tail_));
    }
  }
  text::TextStream::Result result = stream_->Push(bytes);
  delta_.text += result.text;
  if (result.stopped) delta_.stop_string = std::move(result.stop);
  return result.stopped;
}

bool Choice::Token(engine::TokenEvent event) {
  if (finished_) return false;  // computed beyond a stop string: neither text nor usage
  has_delta_ = true;
  ++num_tokens_;
  delta_.token_ids.push_back(event.token_id);
  const bool stops = Stops(event.token_id);
  const bool hidden = stops && !request_.include_stop_str_in_output;
  if (request_.sampling.top_logprobs >= 0) {
    api::TokenLogprobs logprobs;
    logprobs.token = Entry(event.token_id, event.logprob, request_.skip_special_tokens);
    // The bytes of all entries together are the text, and this token is none of it.
    if (hidden) logprobs.token.bytes.clear();
    for (const engine::TokenLogprob& top : event.top_logprobs) {
      logprobs.top.push_back(Entry(top.token_id, top.logprob, false));
    }
    delta_.logprobs.push_back(std::move(logprobs));
  }
  if (stream_ == nullptr || hidden) return false;
  const std::string bytes =
      model_.tokenizer->TokenBytes(event.token_id, request_.skip_special_tokens);
  if (bytes.empty() || !PushText(bytes)) return false;
  Finish(api::Finish::kStop);
  return true;
}

void Choice::PromptLogprobs(engine::PromptLogprobsEvent event) {
  prompt_logprobs_.push_back(std::move(event));
}

void Choice::Terminal(api::Finish finish, int32_t stop_token_id) {
  if (finished_) return;
  if (stream_ != nullptr) delta_.text += stream_->Finish().text;
  if (finish == api::Finish::kStop) delta_.stop_token_id = stop_token_id;
  Finish(finish);
}

void Choice::Finish(api::Finish finish) {
  finished_ = true;
  has_delta_ = true;
  delta_.finish = finish;
}

api::PromptEcho Choice::TakeEcho(const std::vector<int32_t>& prompt_ids) {
  api::PromptEcho echo;
  echo.index = index_;
  echo.token_ids = prompt_ids;
  if (model_.tokenizer != nullptr)
    echo.text = model_.tokenizer->Decode(prompt_ids, request_.skip_special_tokens);
  if (request_.sampling.prompt_logprobs < 0) return echo;
  for (int32_t id : prompt_ids) {
    api::TokenLogprobs one;
    one.token = Entry(id, std::numeric_limits<float>::quiet_NaN(), request_.skip_special_tokens);
    echo.logprobs.push_back(std::move(one));
  }
  for (const engine::PromptLogprobsEvent& event : prompt_logprobs_) {
    for (size_t i = 0; i < event.logprobs.size(); ++i) {
      const size_t at = static_cast<size_t>(event.first) + i;
      if (at >= echo.logprobs.size()) break;
      echo.logprobs[at].token.logprob = event.logprobs[i];
      if (i >= event.top_logprobs.size()) continue;
      for (const engine::TokenLogprob& top : event.top_logprobs[i]) {
        echo.logprobs[at].top.push_back(Entry(top.token_id, top.logprob, false));
      }
    }
  }
  prompt_logprobs_.clear();
  return echo;
}

api::ChoiceDelta Choice::TakeDelta() {
  api::ChoiceDelta delta = std::move(delta_);
  delta_ = api::ChoiceDelta();
  delta_.index = index_;
  has_delta_ = false;
  return delta;
}

}  // namespace modu::generation
