// One choice of a call: its tokens become text, log probabilities and a finish. One thread at a
// time (its call's strand).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request/request.h"
#include "server/api/generation_events.h"
#include "server/api/generation_request.h"
#include "server/api/served_model.h"
#include "server/text/text_stream.h"

namespace modu::generation {

class Choice {
 public:
  /// `request` and `model` outlive the choice.
  Choice(int32_t index, const api::GenerationRequest* request, const api::ServedModel* model,
         int32_t min_tokens);

  /// Adds to the delta that is being gathered. True: a stop string is complete, so the engine's
  /// request is to be ended.
  bool Token(engine::TokenEvent event);
  void PromptLogprobs(engine::PromptLogprobsEvent event);
  /// The engine's last word: finishes what no stop string has finished.
  void Terminal(api::Finish finish, int32_t stop_token_id);

  /// The echoed prompt, once (with its log probabilities, if they were asked for).
  api::PromptEcho TakeEcho(const std::vector<int32_t>& prompt_ids);
  bool HasDelta() const { return has_delta_; }
  /// The delta is neither the last nor large.
  bool DeltaMayWait() const { return !finished_ && delta_.token_ids.size() < kMaxWaitingTokens; }
  api::ChoiceDelta TakeDelta();

  bool finished() const { return finished_; }
  int32_t num_tokens() const { return num_tokens_; }

 private:
  static constexpr size_t kMaxWaitingTokens = 64;

  api::LogprobEntry Entry(int32_t token_id, float logprob, bool skip_special) const;
  bool Stops(int32_t token_id) const;
  void Finish(api::Finish finish);
  bool PushText(const std::string& bytes);

  const int32_t index_;
  const api::GenerationRequest& request_;
  const api::ServedModel& model_;
  const int32_t min_tokens_;
  std::unique_ptr<text::TextStream> stream_;  // null: no tokenizer
  bool watching_stops_;                       // false until min_tokens tokens are there
  std::string tail_;                          // incomplete character before stops are watched
  int32_t num_tokens_ = 0;
  bool finished_ = false, has_delta_ = false;
  api::ChoiceDelta delta_;
  std::vector<engine::PromptLogprobsEvent> prompt_logprobs_;
};

}  // namespace modu::generation
