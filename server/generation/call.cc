#include "server/generation/call.h"

#include <algorithm>
#include <exception>
#include <string>

#include "kernels/check.h"
#include "server/generation/core.h"
#include "server/telemetry/log.h"
#include "server/telemetry/metrics.h"

namespace modu::generation {
namespace {

// Isolates prefixes of clients that do not share a salt (FNV-1a, then a finalizer; 0 means no
// salt). Salts are secrets: who does not know one cannot look for another that meets it in 64 bits.
uint64_t SaltHash(const std::string& salt) {
  if (salt.empty()) return 0;
  uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : salt) hash = (hash ^ c) * 0x100000001b3u;
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93u;
  hash ^= hash >> 32;
  return hash ? hash : 1;
}

api::ApiError TooLong(bool chat, int64_t context, int64_t prompt, int64_t output) {
  return api::ContextLengthExceeded(chat ? "messages" : "prompt", context,
                                    std::to_string(prompt + output) + " tokens (" +
                                        std::to_string(prompt) + " in the prompt, " +
                                        std::to_string(output) + " for the output)",
                                    prompt >= context);
}

}  // namespace

Call::Call(std::shared_ptr<Core> core, uint64_t id, api::GenerationRequest request,
           std::shared_ptr<ResponseSink> sink)
    : core_(std::move(core)),
      id_(id),
      request_(std::move(request)),
      chat_(!request_.prompts.empty() &&
            std::holds_alternative<api::ChatPrompt>(request_.prompts.front())),
      sink_(std::move(sink)) {
  arrival_ns_ = core_->clock->NowNs();
  times_.arrival_ns = arrival_ns_;
}

void Call::Admitted() {
  admitted_ = true;
  queued_bytes_ = request_.body_bytes;
}

void Call::Cancel() {
  if (cancelled_.exchange(true)) return;
  if (Post(CancelAll{})) core_->Schedule(shared_from_this());
}

bool Call::Post(Item item) {
  std::lock_guard lock(mu_);
  inbox_.push_back(std::move(item));
  return !std::exchange(busy_, true);
}

void Call::Run() noexcept {
  telemetry::TokenTally tally;
  Run(&tally);
  TellTokens(&tally);
}

void Call::TellTokens(telemetry::TokenTally* tally) const {
  if (core_->metrics != nullptr) core_->metrics->Take(tally);
}

void Call::Run(telemetry::TokenTally* tally) noexcept {
  tally_ = tally;
  while (true) {
    taken_.clear();
    {
      std::lock_guard lock(mu_);
      taken_.swap(inbox_);
      if (taken_.empty()) {
        busy_ = false;
        return;
      }
    }
    try {
      for (Item& item : taken_) {
        if (!ended_) Work(item);
      }
      if (!ended_) {
        Flush(/*all=*/false);
        MaybeEnd();
      }
    } catch (const std::exception& error) {
      // A library threw, or memory ran out: this call fails, no other does.
      LogInternal(error.what());
      if (!ended_) {
        for (Running& one : running_) {
          if (!one.over && one.engine_id != 0) core_->engine->Cancel(one.engine_id);
        }
        failure_ = "internal";
        const api::ApiError error = api::MakeError(500, "internal error", "internal_error");
        End("failed", &error);
      }
    }
  }
}

void Call::Work(Item& item) {
  if (std::holds_alternative<Prepare>(item)) {
    DoPrepare();
  } else if (auto* token = std::get_if<Token>(&item)) {
    DoToken(*token);
  } else if (auto* scores = std::get_if<PromptScores>(&item)) {
    running_[scores->choice].choice->PromptLogprobs(std::move(scores->event));
  } else if (auto* terminal = std::get_if<Terminal>(&item)) {
    DoTerminal(*terminal);
  } else if (std::holds_alternative<CancelAll>(item)) {
    DoCancel();
  } else if (auto* abort = std::get_if<Abort>(&item)) {
    for (Running& one : running_) {
      if (!one.over && one.engine_id != 0) core_->engine->Cancel(one.engine_id);
    }
    Flush(/*all=*/true);
    failure_ = abort->error.code.empty() ? "aborted" : abort->error.code;
    End("failed", &abort->error);
  }
}

void Call::Refuse(const api::ApiError& error) {
  failure_ = error.code.empty() ? "invalid_request" : error.code;
  End("rejected", &error);
}

void Call::DoPrepare() {
  if (cancelled_) return End("cancelled", nullptr);
  const int64_t deadline_ms = core_->options.limits.queue_deadline_ms;
  if (deadline_ms > 0 && core_->clock->NowNs() - arrival_ns_ > deadline_ms * 1'000'000) {
    api::ApiError error =
        api::MakeError(503, "the request waited longer than " + std::to_string(deadline_ms) + " ms",
                       "queue_timeout");
    error.retry_after_s = 1;
    failure_ = "queue_timeout";
    return End("expired", &error);
  }
  if (!RenderAll() || !FitLengths()) return;
  int64_t tokens = 0;
  for (const auto& ids : prompt_ids_) tokens += static_cast<int64_t>(ids.size()) * request_.n;
  if (auto error = core_->admission.EnterTokens(tokens, core_->clock->NowNs())) {
    failure_ = error->code;
    return End("rejected", &*error);
  }
  for (int32_t i = 0; i < num_choices(); ++i) {
    Running one;
    one.choice =
        std::make_unique<Choice>(i, &request_, &core_->model, request_.sampling.min_tokens);
    one.queued_tokens = static_cast<int64_t>(prompt_ids_[i / request_.n].size());
    running_.push_back(std::move(one));
  }
  core_->admission.LeaveBytes(std::exchange(queued_bytes_, 0));
  SubmitAll();
}

bool Call::RenderAll() {
  for (api::Prompt& prompt : request_.prompts) {
    int64_t start = core_->clock->NowNs();
    const auto on_rendered = [&] {
      const int64_t now = core_->clock->NowNs();
      if (core_->metrics != nullptr) {
        core_->metrics->Stage("render", static_cast<double>(now - start) * 1e-9);
      }
      start = now;
    };
    // Twice the context, so that whoever asked for a little too much is told exactly how much.
    const size_t max_tokens = 2 * static_cast<size_t>(core_->model.max_model_len);
    api::Parsed<RenderedPrompt> rendered =
        core_->renderer.Render(prompt, {core_->NowUnixSeconds(), max_tokens, false, on_rendered});
    if (core_->metrics != nullptr) {
      core_->metrics->Stage("tokenize", static_cast<double>(core_->clock->NowNs() - start) * 1e-9);
    }
    if (auto* error = std::get_if<api::ApiError>(&rendered)) {
      failure_ = error->code == "context_length_exceeded" ? error->code : "invalid_request";
      End("rejected", error);
      return false;
    }
    prompt_ids_.push_back(std::move(std::get<RenderedPrompt>(rendered).token_ids));
    prompt = api::TokenPrompt{};  // the text is not needed any more
    if (cancelled_) {
      End("cancelled", nullptr);
      return false;
    }
  }
  return true;
}

bool Call::FitLengths() {
  const int64_t context = core_->model.max_model_len;
  const engine::SamplingParams& sampling = request_.sampling;
  for (const auto& ids : prompt_ids_) {
    const auto prompt = static_cast<int64_t>(ids.size());
    int64_t need = std::max<int64_t>(1, sampling.min_tokens);
    if (request_.has_max_tokens) need = sampling.max_tokens;
    if (prompt + need <= context) continue;
    const api::ApiError error = TooLong(chat_, context, prompt, need);
    failure_ = "context_length_exceeded";
    End("rejected", &error);
    return false;
  }
  return true;
}

void Call::SubmitAll() {
  const api::Limits& limits = core_->options.limits;
  const uint64_t seed = request_.has_seed ? request_.sampling.seed : core_->Random64();
  for (int32_t i = 0; i < num_choices(); ++i) {
    engine::Request request;
    request.id = core_->next_id.fetch_add(1);
    request.cache_salt = SaltHash(request_.cache_salt);
    request.priority = request_.priority;
    request.arrival_ns = arrival_ns_;
    if (limits.queue_deadline_ms > 0) {
      request.queue_deadline_ns = arrival_ns_ + int64_t{limits.queue_deadline_ms} * 1'000'000;
    }
    if (limits.request_deadline_ms > 0) {
      request.deadline_ns = arrival_ns_ + int64_t{limits.request_deadline_ms} * 1'000'000;
    }
    request.prompt_ids = prompt_ids_[i / request_.n];
    request.sampling = request_.sampling;
    // A seed of the client's gives each prompt the same draws; without one all choices differ.
    request.sampling.seed = seed + static_cast<uint64_t>(request_.has_seed ? i % request_.n : i);
    const int64_t left =
        core_->model.max_model_len - static_cast<int64_t>(request.prompt_ids.size());
    int32_t& max_tokens = request.sampling.max_tokens;
    if (max_tokens < 0 || (!request_.has_max_tokens && max_tokens > left))
      max_tokens = static_cast<int32_t>(left);
    max_tokens_ = max_tokens;

    running_[i].engine_id = request.id;
    core_->Route(request.id, shared_from_this(), i);
    const absl::Status status = core_->engine->Submit(std::move(request));
    if (status.ok()) continue;
    core_->Unroute(running_[i].engine_id);
    for (int32_t rest = i; rest < num_choices(); ++rest) {
      running_[rest].engine_id = 0;
      running_[rest].over = true;
      LeaveQueue(rest);
      ++num_over_;
    }
    const api::ApiError error = api::FromStatus(status);
    Fail(error, "rejected", error.http_status == 400 ? "invalid_request" : "unavailable");
    return;
  }
  accepted_ = true;
  sink_->OnAccepted(prompt_ids_);
  if (request_.sampling.prompt_logprobs < 0) EmitEchoes();
}

void Call::EmitEchoes() {
  if (!request_.echo) return;
  for (int32_t i = 0; i < num_choices(); ++i) {
    if (std::exchange(running_[i].echoed, true)) continue;
    sink_->OnEcho(running_[i].choice->TakeEcho(prompt_ids_[i / request_.n]));
  }
}

void Call::DoToken(Token& token) {
  Running& one = running_[token.choice];
  LeaveQueue(token.choice);
  if (one.choice->finished() || error_) return;
  tally_->AddToken();
  if (request_.echo && !std::exchange(one.echoed, true)) {
    sink_->OnEcho(one.choice->TakeEcho(prompt_ids_[token.choice / request_.n]));
  }
  // Tokens of one step come together: guesses that were right.
  if (one.last_token_ns != 0 && one.last_token_ns != token.time_ns)
    tally_->AddGap(static_cast<double>(token.time_ns - one.last_token_ns) * 1e-9);
  one.last_token_ns = token.time_ns;
  started_output_ = true;
  if (one.choice->Token(std::move(token.event))) core_->engine->Cancel(one.engine_id);
}

void Call::DoTerminal(Terminal& terminal) {
  Running& one = running_[terminal.choice];
  if (std::exchange(one.over, true)) return;
  ++num_over_;
  LeaveQueue(terminal.choice);
  const engine::TerminalEvent& event = terminal.event;
  if (terminal.choice % request_.n == 0) cached_tokens_ += event.num_cached_tokens;
  if (terminal.choice == 0) times_ = event.times;
  times_.finished_ns = std::max(times_.finished_ns, event.times.finished_ns);
  if (error_) return;
  if (request_.echo && !one.echoed && !one.choice->finished() &&
      event.reason != engine::FinishReason::kFailed) {
    one.echoed = true;
    sink_->OnEcho(one.choice->TakeEcho(prompt_ids_[terminal.choice / request_.n]));
  }
  switch (event.reason) {
    case engine::FinishReason::kStop:
      one.choice->Terminal(Finish::kStop, event.stop_token_id);
      break;
    case engine::FinishReason::kLength:
      one.choice->Terminal(Finish::kLength, -1);
      break;
    case engine::FinishReason::kCancelled:
      if (!one.choice->finished() && !cancelled_) {
        // The engine gave it up by itself: it is shutting down.
        return Fail(api::MakeError(503, "the server is shutting down", "shutting_down"), "failed",
                    "shutting_down");
      }
      if (!one.choice->finished()) aborted_ = true;
      one.choice->Terminal(Finish::kAbort, -1);
      break;
    case engine::FinishReason::kExpired:
      if (one.choice->finished()) break;  // by a stop string; the engine did not know yet
      if (!started_output_ && event.times.first_scheduled_ns == 0) {
        api::ApiError error =
            api::MakeError(503, std::string(event.status.message()), "queue_timeout");
        error.retry_after_s = 1;
        return Fail(error, "expired", "queue_timeout");
      }
      outcome_ = "expired";
      failure_ = "deadline";
      one.choice->Terminal(Finish::kTimeout, -1);
      break;
    case engine::FinishReason::kFailed: {
      if (one.choice->finished()) break;
      LogInternal(std::string(event.status.message()));
      if (absl::IsDataLoss(event.status)) {  // NaN or infinity in a row: its batch mates go on
        return Fail(
            api::MakeError(500, "the model gave numbers that are not finite", "numeric_error"),
            "failed", "numeric_error");
      }
      return Fail(api::FromStatus(event.status), "failed", "internal");
    }
  }
}

void Call::DoCancel() {
  for (Running& one : running_) {
    if (!one.over) core_->engine->Cancel(one.engine_id);
  }
}

void Call::LogInternal(std::string_view what) const {
  telemetry::Log(telemetry::LogLevel::kError, "call_failed",
                 {{"request_id", request_.request_id}, {"what", what}});
}

void Call::Fail(const api::ApiError& error, const char* outcome, const char* reason) {
  if (error_) return;
  Flush(/*all=*/true);
  error_ = error;
  outcome_ = outcome;
  failure_ = reason;
  for (Running& one : running_) {
    if (!one.over && one.engine_id != 0) core_->engine->Cancel(one.engine_id);
  }
}

void Call::LeaveQueue(int32_t choice) {
  const int64_t tokens = std::exchange(running_[choice].queued_tokens, 0);
  if (tokens > 0) core_->admission.LeaveTokens(tokens);
}

Usage Call::SoFar() const {
  Usage usage;
  for (const auto& ids : prompt_ids_) usage.prompt_tokens += static_cast<int32_t>(ids.size());
  for (const Running& one : running_) usage.completion_tokens += one.choice->num_tokens();
  usage.cached_tokens = cached_tokens_;
  return usage;
}

void Call::Flush(bool all) {
  if (error_ || !accepted_) return;
  const bool behind = !all && sink_->Behind();
  for (Running& one : running_) {
    if (!one.choice->HasDelta() || (behind && one.choice->DeltaMayWait())) continue;
    ChoiceDelta delta = one.choice->TakeDelta();
    if (delta.finish != Finish::kNone) finish_reason_ = api::FinishName(delta.finish);
    sink_->OnDelta(std::move(delta), SoFar());
  }
}

void Call::MaybeEnd() {
  if (running_.empty() || num_over_ < num_choices()) return;
  if (error_) return End(outcome_.c_str(), &*error_);
  if (outcome_.empty()) outcome_ = aborted_ ? "cancelled" : "done";
  End(outcome_.c_str(), nullptr);
}

void Call::End(const char* outcome, const api::ApiError* error) {
  MODU_CHECK(!ended_);
  ended_ = true;
  const int64_t now = core_->clock->NowNs();
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i].engine_id != 0) core_->Unroute(running_[i].engine_id);
    LeaveQueue(static_cast<int32_t>(i));
  }
  if (queued_bytes_ > 0) core_->admission.LeaveBytes(std::exchange(queued_bytes_, 0));
  if (admitted_) core_->admission.LeaveChoices(num_choices(), now);
  const Usage usage = SoFar();
  if (core_->metrics != nullptr) {
    telemetry::CallRecord record;
    record.outcome = outcome;
    record.failure = failure_;
    record.finish_reason = error == nullptr               ? finish_reason_
                           : record.outcome == "rejected" ? ""
                                                          : "error";
    record.prompt_tokens = usage.prompt_tokens;
    record.generation_tokens = usage.completion_tokens;
    record.cached_tokens = usage.cached_tokens;
    record.n = request_.n;
    for (size_t i = 0; i < running_.size(); ++i) {
      const int32_t tokens = running_[i].choice->num_tokens();
      if (i == 0) record.first_choice_tokens = tokens;
      record.longest_choice_tokens = std::max(record.longest_choice_tokens, tokens);
    }
    record.max_tokens = max_tokens_;
    record.times = times_;
    if (record.times.finished_ns == 0) record.times.finished_ns = now;
    if (tally_ != nullptr)
      core_->metrics->Take(tally_);  // who hears the end finds its tokens counted
    core_->metrics->CallEnded(record);
  }
  core_->Remove(id_);
  const std::shared_ptr<ResponseSink> sink = std::move(sink_);
  try {
    if (error != nullptr) {
      sink->OnError(*error);
    } else {
      sink->OnFinished(usage);
    }
  } catch (const std::exception& error) {
    LogInternal(error.what());  // a door that cannot say it any more: the call is over all the same
  }
}

}  // namespace modu::generation
