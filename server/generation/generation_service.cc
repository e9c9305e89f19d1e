#include "server/generation/generation_service.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <utility>

#include "kernels/check.h"
#include "server/generation/call.h"
#include "server/generation/core.h"
#include "server/telemetry/log.h"
#include "server/telemetry/metrics.h"

namespace modu::generation {

struct GenerationService::Impl {
  std::shared_ptr<Core> core;

  /// Event thread: hands what the engine delivered to the calls it concerns and lets each work
  /// once.
  static void Dispatch(Core& core);
  /// Admits `work` and has it done on the side thread; `done` gets what came of it.
  template <class Result>
  static void Aside(std::shared_ptr<Core> core, int64_t bytes,
                    std::function<api::Parsed<Result>()> work,
                    std::function<void(std::optional<Result>, api::ApiError)> done);
};

void GenerationService::Impl::Dispatch(Core& core) {
  std::vector<std::pair<int64_t, engine::StepEvents>> steps;
  {
    std::lock_guard lock(core.events_mu);
    steps.swap(core.events);
  }
  std::vector<std::shared_ptr<Call>> idle;
  // Items are posted under the table's lock; they are moves of small structs, and Post takes only
  // the call's own lock.
  const auto post = [&](engine::RequestId id, auto make) {
    const auto route = core.routes.find(id);
    if (route == core.routes.end()) return;  // the call is over already
    const auto& [call, choice] = route->second;
    if (call->Post(make(choice))) idle.push_back(call);
  };
  {
    std::lock_guard lock(core.mu);
    for (auto& [time_ns, step] : steps) {
      for (auto& event : step.prompt_logprobs) {
        post(event.request,
             [&](int32_t choice) { return Call::PromptScores{choice, std::move(event)}; });
      }
      for (auto& event : step.tokens) {
        post(event.request,
             [&, t = time_ns](int32_t choice) { return Call::Token{choice, t, std::move(event)}; });
      }
      for (auto& event : step.terminals) {
        post(event.request,
             [&](int32_t choice) { return Call::Terminal{choice, std::move(event)}; });
      }
    }
  }
  for (const auto& [time_ns, step] : steps) {
    if (!step.broken_invariant.empty()) {
      telemetry::Log(telemetry::LogLevel::kError, "engine self-check failed: a bug",
                     {{"what", std::string_view(step.broken_invariant)}});
    }
    if (core.metrics == nullptr) continue;
    for (const engine::StepRecord& record : step.steps) core.metrics->Step(record);
  }
  const int64_t start = core.clock->NowNs();
  telemetry::TokenTally tally;
  for (const auto& call : idle) call->Run(&tally);
  if (core.metrics != nullptr && !idle.empty()) {
    core.metrics->Take(&tally);
    core.metrics->Stage("detokenize", static_cast<double>(core.clock->NowNs() - start) * 1e-9);
  }
}

GenerationService::GenerationService(api::ServedModel model, ServiceOptions options,
                                     const engine::Clock* clock, telemetry::Metrics* metrics)
    : impl_(std::make_unique<Impl>()) {
  impl_->core = std::make_shared<Core>(std::move(model), std::move(options), clock, metrics);
}

GenerationService::~GenerationService() { Stop(); }

void GenerationService::Stop() {
  Drain();
  AbortAll(api::MakeError(503, "the server is shutting down", "shutting_down"));
  impl_->core->prompt_threads.Stop();
  impl_->core->side_thread.Stop();
  impl_->core->event_thread.Stop();
}

void GenerationService::Attach(engine::Engine* engine) {
  MODU_CHECK(impl_->core->engine == nullptr);
  impl_->core->engine = engine;
  if (impl_->core->options.limits.max_queued_tokens != 0) return;
  int64_t pool = 0;
  for (const engine::CacheGroupSpec& group : engine->spec().groups) {
    if (group.window == 0)
      pool = std::max<int64_t>(pool, int64_t{group.block_size} * group.num_blocks);
  }
  impl_->core->admission.set_max_queued_tokens(4 * pool);
}

const api::ServedModel& GenerationService::model() const { return impl_->core->model; }
const api::Limits& GenerationService::limits() const { return impl_->core->options.limits; }

std::shared_ptr<GenerationCall> GenerationService::Start(api::GenerationRequest request,
                                                         std::shared_ptr<ResponseSink> sink) {
  Core& core = *impl_->core;
  MODU_CHECK(core.engine != nullptr);
  if (core.metrics != nullptr) {
    core.metrics->CallReceived();
    if (!request.ignored_fields.empty()) core.metrics->Count("ignored_fields_total", "", "");
  }
  const auto choices = static_cast<int32_t>(request.prompts.size()) * request.n;
  const int64_t bytes = request.body_bytes;
  const uint64_t id = core.next_id.fetch_add(1);
  auto call = std::make_shared<Call>(impl_->core, id, std::move(request), std::move(sink));
  std::optional<api::ApiError> refused;
  bool work = false;
  {
    std::lock_guard lock(core.mu);
    if (core.draining) {
      refused = api::MakeError(503, "the server is shutting down", "shutting_down");
      refused->retry_after_s = 1;
    } else {
      refused = core.admission.Enter(choices, bytes, core.clock->NowNs());
      if (!refused) {
        call->Admitted();
        core.calls.emplace(id, call);
        work = call->Post(Call::Prepare{});
      }
    }
  }
  if (refused) {
    call->Refuse(*refused);
  } else if (work) {
    core.prompt_threads.Post([call] { call->Run(); });
  }
  return call;
}

template <class Result>
void GenerationService::Impl::Aside(
    std::shared_ptr<Core> core, int64_t bytes, std::function<api::Parsed<Result>()> work,
    std::function<void(std::optional<Result>, api::ApiError)> done) {
  if (auto refused = core->admission.Enter(1, bytes, core->clock->NowNs()))
    return done(std::nullopt, *refused);
  TextThreads& threads = core->side_thread;
  threads.Post([core = std::move(core), bytes, work = std::move(work), done = std::move(done)] {
    api::Parsed<Result> result = api::MakeError(500, "internal error", "internal_error");
    try {
      result = work();
    } catch (const std::exception& error) {  // the next request may be smaller
      telemetry::Log(telemetry::LogLevel::kError, "text_failed", {{"what", error.what()}});
    }
    core->admission.LeaveBytes(bytes);
    core->admission.LeaveChoices(1, core->clock->NowNs());
    if (auto* error = std::get_if<api::ApiError>(&result)) return done(std::nullopt, *error);
    done(std::move(std::get<Result>(result)), api::ApiError());
  });
}

void GenerationService::Render(
    api::Prompt prompt, int64_t body_bytes,
    std::function<void(std::optional<RenderedPrompt>, api::ApiError)> done) {
  const auto render = [core = impl_->core.get(), prompt = std::move(prompt)] {
    PromptRenderer::Options options;
    options.now_unix_s = core->NowUnixSeconds();
    options.may_be_empty = true;
    return core->renderer.Render(prompt, options);
  };
  Impl::Aside<RenderedPrompt>(impl_->core, body_bytes, render, std::move(done));
}

void GenerationService::Detokenize(
    std::vector<int32_t> ids, int64_t body_bytes,
    std::function<void(std::optional<std::string>, api::ApiError)> done) {
  if (impl_->core->model.tokenizer == nullptr) {
    return done(std::nullopt,
                api::InvalidField("tokens", "this model is served without a tokenizer"));
  }
  const auto decode = [core = impl_->core.get(),
                       ids = std::move(ids)]() -> api::Parsed<std::string> {
    return core->model.tokenizer->Decode(ids, false);
  };
  Impl::Aside<std::string>(impl_->core, body_bytes, decode, std::move(done));
}

void GenerationService::CountRefused(const api::ApiError& error) {
  telemetry::Metrics* metrics = impl_->core->metrics;
  if (metrics == nullptr) return;
  metrics->CallReceived();
  telemetry::CallRecord record;
  record.outcome = "rejected";
  record.failure = "invalid_request";
  if (error.http_status == 404) record.failure = "not_found";
  if (error.http_status == 401) record.failure = "unauthorized";
  if (error.http_status == 503) record.failure = error.code;  // shutting_down
  metrics->CallEnded(record);
}

void GenerationService::Drain() {
  std::lock_guard lock(impl_->core->mu);
  impl_->core->draining = true;
}

bool GenerationService::draining() const {
  std::lock_guard lock(impl_->core->mu);
  return impl_->core->draining;
}

bool GenerationService::Idle() const {
  std::lock_guard lock(impl_->core->mu);
  return impl_->core->calls.empty();
}

void GenerationService::AbortAll(const api::ApiError& error) {
  std::vector<std::shared_ptr<Call>> calls;
  {
    std::lock_guard lock(impl_->core->mu);
    for (const auto& [id, call] : impl_->core->calls) calls.push_back(call);
  }
  for (const auto& call : calls) {
    if (call->Post(Call::Abort{error})) impl_->core->Schedule(call);
  }
}

void GenerationService::Deliver(engine::StepEvents events) {
  const int64_t now = impl_->core->clock->NowNs();
  bool first = false;
  {
    std::lock_guard lock(impl_->core->events_mu);
    first = impl_->core->events.empty();
    impl_->core->events.emplace_back(now, std::move(events));
  }
  // What is not yet fetched is fetched together with this.
  if (first) impl_->core->event_thread.Post([core = impl_->core] { Impl::Dispatch(*core); });
}

}  // namespace modu::generation
