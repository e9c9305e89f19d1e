// A door that keeps what it is told and checks the contract: order, one at a time, exactly one end.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/generation/generation_service.h"

namespace modu::testing {

class RecordingSink final : public generation::ResponseSink {
 public:
  struct ChoiceSeen {
    std::string echo, text, stop_string;
    std::vector<std::string> pieces;
    std::vector<int32_t> token_ids;
    std::vector<api::TokenLogprobs> logprobs, echo_logprobs;
    api::Finish finish = api::Finish::kNone;
    int32_t stop_token_id = -1;
    bool echoed = false;
  };

  void OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) override {
    const Guard guard(this);
    if (accepted || ended_) Violate("accepted twice or late");
    accepted = true;
    prompts = prompt_ids;
  }
  void OnEcho(api::PromptEcho echo) override {
    const Guard guard(this);
    ChoiceSeen& choice = choices[echo.index];
    if (!accepted || choice.echoed || !choice.pieces.empty()) Violate("echo out of order");
    choice.echoed = true;
    choice.echo = echo.text;
    choice.echo_logprobs = echo.logprobs;
  }
  void OnDelta(api::ChoiceDelta delta, const api::Usage& so_far) override {
    const Guard guard(this);
    ChoiceSeen& choice = choices[delta.index];
    if (!accepted || ended_ || choice.finish != api::Finish::kNone) Violate("delta out of order");
    if (so_far.completion_tokens < last_usage.completion_tokens) Violate("usage went back");
    last_usage = so_far;
    choice.text += delta.text;
    choice.pieces.push_back(delta.text);
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    choice.logprobs.insert(choice.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    choice.finish = delta.finish;
    choice.stop_string = delta.stop_string;
    choice.stop_token_id = delta.stop_token_id;
    std::lock_guard lock(mu_);
    ++deltas_;
    changed_.notify_all();
  }
  bool Behind() const override { return behind; }
  void OnFinished(const api::Usage& final_usage) override {
    const Guard guard(this);
    usage = final_usage;
    End();
  }
  void OnError(const api::ApiError& e) override {
    const Guard guard(this);
    error = e;
    End();
  }

  bool WaitEnd(int seconds = 10) {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(seconds), [this] { return ended_.load(); });
  }
  bool WaitDelta(int seconds = 10) {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(seconds),
                             [this] { return deltas_ > 0 || ended_; });
  }
  bool ended() const { return ended_; }

  std::atomic<bool> behind{false};  // the reader's side, for a test to say

  // Read after WaitEnd.
  bool accepted = false;
  std::vector<std::vector<int32_t>> prompts;
  std::map<int32_t, ChoiceSeen> choices;
  api::Usage usage, last_usage;
  std::optional<api::ApiError> error;
  std::string violation;

 private:
  struct Guard {
    explicit Guard(RecordingSink* s) : sink(s) {
      if (sink->inside_.exchange(true)) sink->Violate("two at once");
    }
    ~Guard() { sink->inside_ = false; }
    RecordingSink* sink;
  };
  void Violate(const char* what) { violation = what; }
  void End() {
    if (ended_) Violate("ended twice");
    std::lock_guard lock(mu_);
    ended_ = true;
    changed_.notify_all();
  }

  std::atomic<bool> inside_{false}, ended_{false};
  std::mutex mu_;
  std::condition_variable changed_;
  int deltas_ = 0;
};

}  // namespace modu::testing
