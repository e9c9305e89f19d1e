// A generator that says what a test tells it to, at the pace the test sets, on threads of its own.
// Counts what became of its calls: that is how a test sees that a client's going away reached the
// generation.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "server/generation/generation_service.h"

namespace modu::testing {

struct Script {
  std::string piece = "tok ";               // text of each delta
  int num_deltas = 3;                       // < 0: until cancelled
  int interval_us = 0;                      // between deltas
  int accept_after_ms = 0;                  // queued until then
  std::optional<api::ApiError> refuse;      // instead of acceptance, synchronously
  std::optional<api::ApiError> fail_after;  // after num_deltas
  bool logprobs = false;                    // with bytes that are no UTF-8
};

class ScriptedGenerator final : public generation::Generator {
 public:
  explicit ScriptedGenerator(api::Limits limits = {});
  ~ScriptedGenerator() override;

  const api::ServedModel& model() const override { return model_; }
  const api::Limits& limits() const override { return limits_; }
  std::shared_ptr<generation::GenerationCall> Start(
      api::GenerationRequest request, std::shared_ptr<generation::ResponseSink> sink) override;
  void Render(
      api::Prompt prompt, int64_t body_bytes,
      std::function<void(std::optional<generation::RenderedPrompt>, api::ApiError)> done) override;
  void Detokenize(std::vector<int32_t> ids, int64_t body_bytes,
                  std::function<void(std::optional<std::string>, api::ApiError)> done) override;

  void CountRefused(const api::ApiError& error) override;

  void Set(Script script);
  api::GenerationRequest last_request() const;
  std::vector<int> refused_statuses() const;  // of CountRefused, in order

  std::atomic<int> started{0}, running{0}, cancelled{0}, finished{0};
  std::atomic<int64_t> deltas{0};
  /// Polls for up to five seconds.
  static bool Eventually(const std::function<bool()>& condition);

 private:
  class Call;
  void Run(const std::shared_ptr<Call>& call, const api::GenerationRequest& request, Script script,
           generation::ResponseSink* sink);

  api::ServedModel model_;
  api::Limits limits_;
  mutable std::mutex mutex_;
  Script script_;
  api::GenerationRequest last_request_;
  std::vector<int> refused_statuses_;
  std::vector<std::weak_ptr<Call>> calls_;
  std::vector<std::thread> threads_;
};

}  // namespace modu::testing
