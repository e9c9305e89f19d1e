#include "tests/http/scripted_generator.h"

#include <chrono>

#include "kernels/check.h"

namespace modu::testing {
namespace {

/// One token a byte.
class ByteTokenizer final : public text::Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const text::EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (unsigned char c : text) ids.push_back(c);
    return ids;
  }
  std::string TokenBytes(int32_t id, bool) const override {
    return std::string(1, static_cast<char>(id));
  }
  std::string Decode(const std::vector<int32_t>& ids, bool) const override {
    std::string text;
    for (int32_t id : ids) text.push_back(static_cast<char>(id));
    return text;
  }
  std::string TokenSpelling(int32_t id) const override { return TokenBytes(id, true); }
  int32_t TokenToId(std::string_view spelling) const override {
    return spelling.size() == 1 ? static_cast<unsigned char>(spelling[0]) : -1;
  }
  bool IsControl(int32_t) const override { return false; }
  int32_t vocab_size() const override { return 256; }
  int32_t bos_id() const override { return -1; }
  int32_t eos_id() const override { return 0; }
  std::string kind() const override { return "bytes"; }
};

}  // namespace

class ScriptedGenerator::Call final : public generation::GenerationCall {
 public:
  void Cancel() override {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }
  /// False: cancelled meanwhile.
  bool Sleep(std::chrono::microseconds time) {
    std::unique_lock lock(mutex_);
    if (time.count() > 0) changed_.wait_for(lock, time, [&] { return cancelled_; });
    return !cancelled_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool cancelled_ = false;
};

ScriptedGenerator::ScriptedGenerator(api::Limits limits) : limits_(limits) {
  model_.names = {"scripted", "org/alias"};
  model_.created_unix_s = 1'700'000'000;
  model_.max_model_len = 4096;
  model_.vocab_size = 256;
  model_.tokenizer = std::make_shared<ByteTokenizer>();
  auto parsed = text::ChatTemplate::Parse("{{ messages[0].content }}");
  MODU_CHECK(parsed.ok());
  model_.chat_template = *std::move(parsed);
}

ScriptedGenerator::~ScriptedGenerator() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    for (auto& weak : calls_) {
      if (auto call = weak.lock()) call->Cancel();
    }
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void ScriptedGenerator::Set(Script script) {
  std::lock_guard lock(mutex_);
  script_ = std::move(script);
}

api::GenerationRequest ScriptedGenerator::last_request() const {
  std::lock_guard lock(mutex_);
  return last_request_;
}

void ScriptedGenerator::CountRefused(const api::ApiError& error) {
  std::lock_guard lock(mutex_);
  refused_statuses_.push_back(error.http_status);
}

std::vector<int> ScriptedGenerator::refused_statuses() const {
  std::lock_guard lock(mutex_);
  return refused_statuses_;
}

std::shared_ptr<generation::GenerationCall> ScriptedGenerator::Start(
    api::GenerationRequest request, std::shared_ptr<generation::ResponseSink> sink) {
  auto call = std::make_shared<Call>();
  std::lock_guard lock(mutex_);
  last_request_ = request;
  ++started;
  if (script_.refuse) {
    sink->OnError(*script_.refuse);
    return call;
  }
  calls_.push_back(call);
  ++running;
  threads_.emplace_back(
      [this, call, request = std::move(request), script = script_, sink = std::move(sink)] {
        Run(call, request, script, sink.get());
        --running;
      });
  return call;
}

void ScriptedGenerator::Run(const std::shared_ptr<Call>& call,
                            const api::GenerationRequest& request, Script script,
                            generation::ResponseSink* sink) {
  const auto end_cancelled = [&] {
    ++cancelled;
    api::ApiError error;
    error.http_status = 499;
    error.message = "cancelled";
    sink->OnError(error);
  };
  if (!call->Sleep(std::chrono::milliseconds(script.accept_after_ms))) return end_cancelled();
  const size_t num_choices = request.prompts.size() * static_cast<size_t>(request.n);
  sink->OnAccepted(std::vector<std::vector<int32_t>>(request.prompts.size(), {1, 2, 3}));
  api::Usage usage;
  usage.prompt_tokens = 3;
  for (int i = 0; script.num_deltas < 0 || i < script.num_deltas; ++i) {
    const bool last = i + 1 == script.num_deltas && !script.fail_after;
    if (!call->Sleep(std::chrono::microseconds(script.interval_us))) return end_cancelled();
    for (size_t c = 0; c < num_choices; ++c) {
      api::ChoiceDelta delta;
      delta.index = static_cast<int32_t>(c);
      delta.text = script.piece;
      delta.token_ids = {65 + i % 26};
      if (script.logprobs) {
        api::LogprobEntry entry{delta.token_ids[0], "\xed\x95", -0.5f};
        delta.logprobs.push_back({entry, {entry}});
      }
      if (last) delta.finish = api::Finish::kLength;
      ++usage.completion_tokens;
      ++deltas;
      sink->OnDelta(std::move(delta), usage);
    }
  }
  ++finished;
  if (script.fail_after) return sink->OnError(*script.fail_after);
  sink->OnFinished(usage);
}

void ScriptedGenerator::Render(
    api::Prompt prompt, int64_t body_bytes,
    std::function<void(std::optional<generation::RenderedPrompt>, api::ApiError)> done) {
  generation::RenderedPrompt rendered;
  if (const auto* text = std::get_if<api::TextPrompt>(&prompt)) rendered.text = text->text;
  if (const auto* chat = std::get_if<api::ChatPrompt>(&prompt))
    rendered.text = chat->messages.dump();
  for (unsigned char c : rendered.text) rendered.token_ids.push_back(c);
  done(std::move(rendered), {});
}

void ScriptedGenerator::Detokenize(
    std::vector<int32_t> ids, int64_t body_bytes,
    std::function<void(std::optional<std::string>, api::ApiError)> done) {
  done(model_.tokenizer->Decode(ids, true), {});
}

bool ScriptedGenerator::Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

}  // namespace modu::testing
