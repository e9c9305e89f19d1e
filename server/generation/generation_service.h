// Where both doors meet: a validated GenerationRequest goes in, typed deltas come out. Text threads
// render, tokenize and detokenize; the engine's one queue item a step is dispatched to the calls it
// concerns. One function makes a call's terminal move: usage record, metrics, last message.
// Thread-safe.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/api/error.h"
#include "server/api/generation_events.h"
#include "server/api/generation_request.h"
#include "server/api/limits.h"
#include "server/api/served_model.h"

namespace modu::telemetry {
class Metrics;
}

namespace modu::generation {

using api::ChoiceDelta;
using api::Finish;
using api::LogprobEntry;
using api::PromptEcho;
using api::TokenLogprobs;
using api::Usage;

/// A door's end of one call. Called from text threads, never two at once for one call, in order;
/// must not block. Exactly one of OnFinished and OnError ends it.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  /// Before anything else, when the prompt is tokenized and a place in the engine is had.
  virtual void OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) {}
  virtual void OnEcho(PromptEcho echo) {}
  virtual void OnDelta(ChoiceDelta delta, const Usage& so_far) = 0;
  /// Whether the reader is behind, so that a token more or less in a delta makes no difference to
  /// it: a few may then come together, with the next token at the latest.
  virtual bool Behind() const { return false; }
  virtual void OnFinished(const Usage& usage) = 0;
  virtual void OnError(const api::ApiError& error) = 0;
};

/// The call in progress. Dropping the handle does not cancel; Cancel may come at any time, twice or
/// too late.
class GenerationCall {
 public:
  virtual ~GenerationCall() = default;
  virtual void Cancel() = 0;
};

/// Rendered and tokenized without running: /tokenize, /v1/chat/completions/render, Tokenize.
struct RenderedPrompt {
  std::string text;
  std::vector<int32_t> token_ids;
};

struct ServiceOptions {
  api::Limits limits;
  // Threads that render and tokenize prompts; 0: one for every 8 cores. One more turns tokens into
  // text, and one works for /tokenize and the like.
  int num_text_threads = 1;
  int32_t max_running = 64;  // choices that the engine runs at once (EngineOptions::max_running)
  // Seams for tests; empty: the system's.
  std::function<uint64_t()> random64;
  std::function<int64_t()> now_unix_s;
};

/// What the doors see of the service; the doors' tests put a scripted one in its place.
class Generator {
 public:
  virtual ~Generator() = default;
  virtual const api::ServedModel& model() const = 0;
  virtual const api::Limits& limits() const = 0;

  /// Takes a place in the queue at once (429, 503 through the sink otherwise), before any text
  /// work. The sink may be called before this returns. Never null.
  virtual std::shared_ptr<GenerationCall> Start(api::GenerationRequest request,
                                                std::shared_ptr<ResponseSink> sink) = 0;

  /// Text work without a generation, on a thread of its own; `done` gets the prompt or the error.
  /// `body_bytes`: what it weighs in the queue.
  virtual void Render(api::Prompt prompt, int64_t body_bytes,
                      std::function<void(std::optional<RenderedPrompt>, api::ApiError)> done) = 0;
  virtual void Detokenize(std::vector<int32_t> ids, int64_t body_bytes,
                          std::function<void(std::optional<std::string>, api::ApiError)> done) = 0;

  /// A generation that a door refused before Start (its key, a drain, a body that does not parse):
  /// counted as received and rejected.
  virtual void CountRefused(const api::ApiError& error) {}
};

class GenerationService final : public Generator, public engine::EventSink {
 public:
  GenerationService(api::ServedModel model, ServiceOptions options, const engine::Clock* clock,
                    telemetry::Metrics* metrics);
  ~GenerationService() override;
  /// The engine is made after its sink; called once before the first Start.
  void Attach(engine::Engine* engine);

  const api::ServedModel& model() const override;
  const api::Limits& limits() const override;

  std::shared_ptr<GenerationCall> Start(api::GenerationRequest request,
                                        std::shared_ptr<ResponseSink> sink) override;
  void Render(api::Prompt prompt, int64_t body_bytes,
              std::function<void(std::optional<RenderedPrompt>, api::ApiError)> done) override;
  void Detokenize(std::vector<int32_t> ids, int64_t body_bytes,
                  std::function<void(std::optional<std::string>, api::ApiError)> done) override;
  void CountRefused(const api::ApiError& error) override;

  /// New calls get 503 from now on; true once no call is left.
  void Drain();
  bool draining() const;
  bool Idle() const;
  /// Ends every call that is left with an error event, whether or not the engine still answers.
  void AbortAll(const api::ApiError& error);
  /// Drain, AbortAll, and the text threads joined: before the engine goes. Idempotent; the
  /// destructor does it too.
  void Stop();

  void Deliver(engine::StepEvents events) override;  // engine thread

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::generation
