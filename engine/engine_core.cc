#include "engine/engine_core.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace modu::engine {
namespace {

std::vector<KvGroup> GroupsOf(const RunnerSpec& spec) {
  MODU_CHECK(!spec.groups.empty());
  std::vector<KvGroup> groups;
  for (const CacheGroupSpec& group : spec.groups) {
    // Block size belongs to the backend, so a prefix has the same block borders in every group.
    MODU_CHECK(group.block_size == spec.groups[0].block_size);
    groups.push_back({group.num_blocks, group.window});
  }
  return groups;
}

SchedulerOptions SchedulerOptionsOf(const RunnerSpec& spec, const EngineOptions& options) {
  SchedulerOptions scheduler;
  scheduler.max_running = std::min(options.max_running, spec.max_sequences);
  scheduler.max_step_tokens = std::min(options.max_step_tokens, spec.max_batch_tokens);
  scheduler.step_budget = options.step_budget;
  scheduler.step_budget.prefill_apart = spec.phased;
  scheduler.max_draft_tokens = options.max_draft_tokens;
  return scheduler;
}

KvCacheManager::Options KvOptionsOf(const RunnerSpec& spec, const EngineOptions& options,
                                    int depth) {
  KvCacheManager::Options kv;
  kv.prefix_cache = options.prefix_cache;
  if (options.block_hash != nullptr) kv.hash = options.block_hash;
  kv.max_unsettled_tokens = std::min(options.max_step_tokens, spec.max_batch_tokens) * depth;
  return kv;
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::ranges::find(ids, id) != ids.end();
}

}  // namespace

EngineCore::EngineCore(std::unique_ptr<ModelRunner> runner, const EngineOptions& options,
                       const Clock* clock, EventSink* sink)
    : runner_(std::move(runner)),
      spec_(runner_->spec()),
      clock_(clock),
      sink_(sink),
      kv_(GroupsOf(spec_), spec_.groups[0].block_size,
          KvOptionsOf(spec_, options, runner_->pipeline_depth())),
      scheduler_(SchedulerOptionsOf(spec_, options), &kv_),
      pipeline_depth_(std::max(1, runner_->pipeline_depth())) {
  last_step_ns_ = clock_->NowNs();
}

EngineCore::~EngineCore() { MODU_CHECK(idle()); }

int32_t EngineCore::max_kv_tokens() const {
  int32_t tokens = spec_.max_model_len;
  for (int g = 0; g < kv_.num_groups(); ++g) {
    const int32_t total = kv_.pool(g).total();
    if (kv_.BlocksFor(g, tokens) <= total) continue;
    // A sliding group that cannot hold its whole window is bounded by its blocks like a full one.
    tokens = static_cast<int32_t>(std::min<int64_t>(tokens, int64_t{total} * kv_.block_size()));
  }
  return tokens;
}

void EngineCore::Add(Request request) {
  if (sequences_.empty()) last_step_ns_ = clock_->NowNs();  // the time without work is no stall
  auto owned = std::make_unique<Sequence>();
  Sequence* sequence = owned.get();
  sequence->tokens = std::move(request.prompt_ids);
  sequence->num_prompt = static_cast<int32_t>(sequence->tokens.size());
  sequence->tokens.reserve(sequence->tokens.size() + std::min(request.sampling.max_tokens, 1024));
  sequence->request = std::move(request);
  sequence->order = next_order_++;
  sequence->next_prompt_logprob = sequence->request.sampling.prompt_logprobs >= 0 ? 1 : 0;
  sequence->kv = kv_.NewSequence({sequence->request.tenant, sequence->request.cache_salt});
  if (spec_.phased) sequence->kv.first_generated = sequence->num_prompt;
  sequence->times.arrival_ns = sequence->request.arrival_ns;
  const bool added = sequences_.emplace(sequence->request.id, std::move(owned)).second;
  MODU_CHECK(added);  // the server makes ids unique
  scheduler_.Add(sequence);
  NoteDeadline(*sequence);
}

void EngineCore::Cancel(RequestId id) {
  const auto it = sequences_.find(id);
  if (it != sequences_.end()) End(it->second.get(), FinishReason::kCancelled, absl::OkStatus());
}

void EngineCore::FinishAll() {
  std::vector<Sequence*> all;
  for (const auto& [id, sequence] : sequences_) all.push_back(sequence.get());
  std::ranges::sort(all, {}, &Sequence::order);
  for (Sequence* sequence : all) End(sequence, FinishReason::kCancelled, absl::OkStatus());
  while (!in_flight_.empty()) CompleteStep();
  BuryEnded();
  Deliver();
}

bool EngineCore::RunOnce() {
  ExpireDeadlines();
  bool moved = false;
  plan_.Clear();
  while (static_cast<int>(in_flight_.size()) < pipeline_depth_ && LaunchStep()) moved = true;
  moved |= !plan_.preempted.empty();
  if (!in_flight_.empty()) {
    CompleteStep();
    moved = true;
  }
  BuryEnded();
  moved |= !events_.tokens.empty() || !events_.terminals.empty();
  Deliver();
  return moved;
}

bool EngineCore::LaunchStep() {
  if (scheduler_.num_running() + scheduler_.num_waiting() == 0) return false;
  // After a launch that failed nothing may follow: it would feed on rows that will never be.
  if (!in_flight_.empty() && !in_flight_.back().status.ok()) return false;
  const uint64_t step = next_step_;
  const int64_t planned_ns = clock_->NowNs();
  scheduler_.Plan(step, &plan_);
  for (Sequence* sequence : plan_.preempted) EndSlotIfUnused(sequence);
  for (Sequence* sequence : plan_.admitted) {
    // One that the same plan preempted again gets its slot when it comes back.
    if (sequence->state == SequenceState::kRunning) StartSlot(sequence);
  }
  if (plan_.chunks.empty()) return false;

  ForwardInput input;
  if (!spare_inputs_.empty()) {
    input = std::move(spare_inputs_.back());
    spare_inputs_.pop_back();
  }
  LaunchedStep& launched = in_flight_.emplace_back();
  if (!spare_chunks_.empty()) {
    launched.chunks = std::move(spare_chunks_.back());
    spare_chunks_.pop_back();
  }
  BuildStepPacket(step, plan_, kv_.block_size(), kv_.num_groups(), &input, &launched.chunks);
  if (launched.chunks.empty()) {  // all of them failed to start
    in_flight_.pop_back();
    spare_inputs_.push_back(std::move(input));
    return false;
  }
  ++next_step_;
  launched.num_tokens = static_cast<int32_t>(input.token_ids.size());
  // A step that others are launched behind has to compute what they count on.
  if (pipeline_depth_ == 1 && launched.chunks.front().num_prompt_rows == 0) {
    launched.least_tokens = input.least_tokens = plan_.least_tokens;
  }
  launched.launched_ns = clock_->NowNs();
  launched.schedule_ns = launched.launched_ns - planned_ns;
  launched.shape = plan_.shape;
  launched.handle.step = step;
  try {
    launched.handle = runner_->Launch(std::move(input));
  } catch (const std::exception& error) {
    launched.status =
        absl::InternalError(absl::StrCat("the step could not be launched: ", error.what()));
  } catch (...) {
    launched.status = absl::InternalError("the step could not be launched");
  }
  return true;
}

void EngineCore::StartSlot(Sequence* sequence) {
  MODU_CHECK(sequence->slot < 0);
  if (sequence->times.first_scheduled_ns == 0) {
    sequence->times.first_scheduled_ns = clock_->NowNs();
    prompt_tokens_ += sequence->num_prompt;
  }
  try {
    sequence->slot = runner_->StartSequence(sequence->request.sampling, sequence->tokens,
                                            sequence->num_output());
  } catch (const std::exception& error) {
    End(sequence, FinishReason::kFailed,
        absl::InternalError(absl::StrCat("no sampler state could be made: ", error.what())));
  } catch (...) {
    End(sequence, FinishReason::kFailed, absl::InternalError("no sampler state could be made"));
  }
}

void EngineCore::EndSlotIfUnused(Sequence* sequence) {
  if (sequence->slot < 0 || sequence->num_in_flight > 0 ||
      sequence->state == SequenceState::kRunning)
    return;
  runner_->EndSequence(std::exchange(sequence->slot, -1));
}

StepOutput EngineCore::WaitFor(const LaunchedStep& step) {
  StepOutput output;
  if (!step.status.ok()) {
    output.status = step.status;
    return output;
  }
  if (on_wait_ != nullptr) on_wait_(on_wait_context_, step.launched_ns);
  try {
    output = runner_->Wait(step.handle);
  } catch (const std::exception& error) {
    output.status = absl::InternalError(absl::StrCat("the step failed: ", error.what()));
  } catch (...) {
    output.status = absl::InternalError("the step failed");
  }
  if (on_wait_ != nullptr) on_wait_(on_wait_context_, 0);
  size_t rows = 0;
  for (const LaunchedChunk& chunk : step.chunks) rows += chunk.num_rows();
  if (output.num_tokens >= 0) {
    rows = 0;
    if (step.least_tokens == 0 || output.num_tokens < step.least_tokens ||
        output.num_tokens >= step.num_tokens) {
      output.status = absl::InternalError("the step ended early, which it was not to do");
    }
  }
  if (output.status.ok() && output.rows.size() != rows) {
    output.status =
        absl::InternalError("the step gave another number of rows than it was asked for");
  }
  return output;
}

void EngineCore::CompleteStep() {
  LaunchedStep step = std::move(in_flight_.front());
  in_flight_.pop_front();
  StepOutput output = WaitFor(step);
  const int64_t now_ns = clock_->NowNs();
  // In a pipeline a step begins where the one before it ended.
  if (output.status.ok() && output.num_tokens >= 0) {
    CutShort(output.num_tokens, &step);
  } else if (output.status.ok()) {
    step.shape.prefill_ns = static_cast<double>(output.prompt_ns);
    scheduler_.Learn(step.shape, now_ns - std::max(step.launched_ns, last_step_ns_));
  }
  last_step_ns_ = now_ns;
  ++num_steps_;
  events_.steps.push_back({step.num_tokens, step.schedule_ns, output.forward_ns, output.sample_ns});
  events_.tokens.reserve(step.chunks.size());
  for (const LaunchedChunk& chunk : step.chunks) {
    --chunk.sequence->num_in_flight;
    if (chunk.sequence->state == SequenceState::kEnded)
      continue;  // what it computed beyond its end is nobody's
    CompleteChunk(chunk, output, now_ns);
    EndSlotIfUnused(chunk.sequence);
  }
  step.chunks.clear();
  spare_chunks_.push_back(std::move(step.chunks));
  if (!output.input.groups.empty()) spare_inputs_.push_back(std::move(output.input));
}

/// As if fewer tokens had been planned. Its time teaches nothing: some went on what is lost.
void EngineCore::CutShort(int32_t num_tokens, LaunchedStep* step) {
  ++steps_cut_short_;
  LaunchedChunk& chunk = step->chunks.front();
  const int32_t lost = step->num_tokens - num_tokens;
  // Without a pipeline nothing happened to it since the launch.
  MODU_CHECK(chunk.sequence->state == SequenceState::kRunning);
  scheduler_.TakeBack(chunk.sequence, lost, chunk.samples);
  chunk.end -= lost;
  chunk.samples = false;
  step->num_tokens = num_tokens;
}

void EngineCore::CompleteChunk(const LaunchedChunk& chunk, StepOutput& output, int64_t now_ns) {
  Sequence* sequence = chunk.sequence;
  if (!output.status.ok()) {
    End(sequence, FinishReason::kFailed, output.status);
    return;
  }
  for (int32_t r = 0; r < chunk.num_prompt_rows + (chunk.samples ? 1 : 0); ++r) {
    if (output.rows[chunk.first_row + r].numeric_error) return FailNumeric(sequence);
  }
  if (chunk.epoch == sequence->epoch) {
    sequence->num_computed = chunk.end;
    kv_.Settle(&sequence->kv, sequence->tokens, chunk.end);
  }
  if (chunk.num_prompt_rows > 0 ||
      (sequence->request.sampling.prompt_logprobs >= 0 && sequence->num_prompt == 1)) {
    EmitPromptLogprobs(chunk, output);
  }
  if (chunk.samples) {
    TakeTokens(chunk, output, now_ns);
  } else if (sequence->request.sampling.max_tokens == 0 && chunk.end == sequence->num_prompt) {
    // Preempted meanwhile or not: all that was asked for is said, and nothing is to be said twice.
    End(sequence, FinishReason::kLength, absl::OkStatus());
  }
}

void EngineCore::EmitPromptLogprobs(const LaunchedChunk& chunk, StepOutput& output) {
  Sequence* sequence = chunk.sequence;
  if (chunk.num_prompt_rows == 0 && sequence->num_output() > 0)
    return;  // a prompt of one token: said once
  PromptLogprobsEvent event;
  event.request = sequence->request.id;
  const bool from_start = chunk.num_prompt_rows == 0 || chunk.first_prompt_token == 1;
  event.first = from_start ? 0 : chunk.first_prompt_token;
  if (from_start) {
    event.logprobs.push_back(std::numeric_limits<float>::quiet_NaN());
    event.top_logprobs.emplace_back();
  }
  for (int32_t r = 0; r < chunk.num_prompt_rows; ++r) {
    SampledRow& row = output.rows[chunk.first_row + r];
    event.logprobs.push_back(row.logprob);
    event.top_logprobs.push_back(std::move(row.top_logprobs));
  }
  events_.prompt_logprobs.push_back(std::move(event));
}

void EngineCore::FailNumeric(Sequence* sequence) {
  kv_.Distrust(&sequence->kv);
  End(sequence, FinishReason::kFailed, absl::DataLossError("the model's logits are not finite"));
}

void EngineCore::TakeTokens(const LaunchedChunk& chunk, StepOutput& output, int64_t now_ns) {
  Sequence* sequence = chunk.sequence;
  const auto rows = std::span(output.rows).subspan(chunk.first_row + chunk.num_prompt_rows);
  TakeToken(sequence, rows[0], now_ns);
  if (chunk.num_drafts == 0) return;
  int32_t accepted = 0;
  for (; accepted < chunk.num_drafts && sequence->state != SequenceState::kEnded; ++accepted) {
    SampledRow& row = rows[accepted + 1];
    if (row.numeric_error) return FailNumeric(sequence);
    if (row.token_id < 0) break;  // the guess before it was wrong
    ++sequence->num_sampled;
    if (chunk.epoch == sequence->epoch) {
      sequence->num_scheduled = sequence->num_computed = chunk.end + accepted + 1;
      kv_.Settle(&sequence->kv, sequence->tokens, sequence->num_computed);
    }
    TakeToken(sequence, row, now_ns);
  }
  accepted_draft_tokens_ += accepted;
  sequence->draft_history.Learn(chunk.num_drafts, accepted);
  sequence->drafts.clear();
}

void EngineCore::TakeToken(Sequence* sequence, SampledRow& row, int64_t now_ns) {
  const SamplingParams& params = sequence->request.sampling;
  const int32_t index = sequence->num_output();
  if (row.token_id < 0 || row.token_id >= spec_.vocab_size) {
    End(sequence, FinishReason::kFailed,
        absl::InternalError("the sampler drew an id outside the vocabulary"));
    return;
  }
  sequence->tokens.push_back(row.token_id);
  ++generation_tokens_;
  if (index == 0) sequence->times.first_token_ns = now_ns;
  sequence->times.last_token_ns = now_ns;
  TokenEvent& event = events_.tokens.emplace_back();
  event.request = sequence->request.id;
  event.token_id = row.token_id;
  event.logprob = params.top_logprobs >= 0 ? row.logprob : 0.0f;
  event.top_logprobs = std::move(row.top_logprobs);
  const bool may_stop = index >= params.min_tokens;
  const bool stops = Contains(params.stop_token_ids, row.token_id) ||
                     (!params.ignore_eos && Contains(spec_.eos_ids, row.token_id));
  if (may_stop && stops) {
    End(sequence, FinishReason::kStop, absl::OkStatus(), row.token_id);
  } else if (index + 1 >= params.max_tokens) {
    End(sequence, FinishReason::kLength, absl::OkStatus());
  }
}

void EngineCore::NoteDeadline(const Sequence& sequence) {
  const Request& request = sequence.request;
  if (request.deadline_ns > 0) next_deadline_ns_ = std::min(next_deadline_ns_, request.deadline_ns);
  if (request.queue_deadline_ns > 0 && sequence.times.first_scheduled_ns == 0) {
    next_deadline_ns_ = std::min(next_deadline_ns_, request.queue_deadline_ns);
  }
}

void EngineCore::ExpireDeadlines() {
  if (next_deadline_ns_ == INT64_MAX) return;
  const int64_t now_ns = clock_->NowNs();
  if (now_ns < next_deadline_ns_) return;
  next_deadline_ns_ = INT64_MAX;
  expired_.clear();
  for (const auto& [id, sequence] : sequences_) {
    const Request& request = sequence->request;
    const bool queued = sequence->times.first_scheduled_ns == 0;
    if ((request.deadline_ns > 0 && now_ns >= request.deadline_ns) ||
        (queued && request.queue_deadline_ns > 0 && now_ns >= request.queue_deadline_ns)) {
      expired_.push_back(sequence.get());
    } else {
      NoteDeadline(*sequence);
    }
  }
  std::ranges::sort(expired_, {}, &Sequence::order);  // not the map's order: a replay must agree
  for (Sequence* sequence : expired_) {
    const bool whole = sequence->request.deadline_ns > 0 && now_ns >= sequence->request.deadline_ns;
    End(sequence, FinishReason::kExpired,
        absl::DeadlineExceededError(whole ? "the request's deadline has passed"
                                          : "the queue deadline has passed"));
  }
}

void EngineCore::End(Sequence* sequence, FinishReason reason, absl::Status status,
                     int32_t stop_token_id) {
  MODU_CHECK(sequence->state != SequenceState::kEnded);
  scheduler_.Remove(sequence);
  EndSlotIfUnused(sequence);
  TerminalEvent& terminal = events_.terminals.emplace_back();
  terminal.request = sequence->request.id;
  terminal.reason = reason;
  terminal.stop_token_id = stop_token_id;
  terminal.status = std::move(status);
  terminal.num_prompt_tokens = sequence->num_prompt;
  terminal.num_cached_tokens = sequence->num_cached;
  terminal.num_output_tokens = sequence->num_output();
  terminal.num_preemptions = sequence->epoch;
  sequence->times.finished_ns = clock_->NowNs();
  terminal.times = sequence->times;
  const auto it = sequences_.find(sequence->request.id);
  ended_.push_back(std::move(it->second));
  sequences_.erase(it);
}

void EngineCore::BuryEnded() {
  std::erase_if(ended_, [this](const std::unique_ptr<Sequence>& sequence) {
    if (sequence->num_in_flight > 0) return false;
    EndSlotIfUnused(sequence.get());
    return true;
  });
}

void EngineCore::Deliver() {
  if (events_.prompt_logprobs.empty() && events_.tokens.empty() && events_.terminals.empty())
    return;
  if (before_deliver_ != nullptr) before_deliver_(before_deliver_context_);
  sink_->Deliver(std::exchange(events_, {}));
}

void EngineCore::FillStats(EngineStats* stats) const {
  stats->num_waiting = scheduler_.num_waiting();
  stats->num_running = scheduler_.num_running();
  stats->blocks_total = stats->blocks_free = stats->blocks_cached = stats->blocks_held = 0;
  for (int g = 0; g < kv_.num_groups(); ++g) {
    const BlockPool& pool = kv_.pool(g);
    stats->blocks_total += pool.total();
    stats->blocks_free += pool.num_free();
    stats->blocks_cached += pool.num_idle();
    stats->blocks_held += pool.num_held();
  }
  const SchedulerCounts& counts = scheduler_.counts();
  stats->num_steps = num_steps_;
  stats->steps_cut_short = steps_cut_short_;
  stats->mixed_steps = static_cast<uint64_t>(scheduler_.step_budget().mixed_steps());
  stats->mixed_steps_over_bound =
      static_cast<uint64_t>(scheduler_.step_budget().steps_over_bound());
  stats->num_preemptions = counts.preemptions;
  stats->prompt_tokens = prompt_tokens_;
  stats->generation_tokens = generation_tokens_;
  stats->num_drafts = counts.drafts;
  stats->draft_tokens = counts.draft_tokens;
  stats->accepted_draft_tokens = accepted_draft_tokens_;
  stats->prompt_tokens_cached = counts.prompt_tokens_cached;
  stats->prompt_tokens_recomputed = counts.prompt_tokens_recomputed;
  stats->prefix_queries_tokens = counts.prefix_queries_tokens;
  stats->prefix_hits_tokens = counts.prefix_hits_tokens;
  stats->last_step_ns = last_step_ns_;
}

std::string EngineCore::SelfCheck() const {
  std::vector<const SequenceKv*> live;
  int32_t waiting = 0, running = 0;
  std::unordered_map<const Sequence*, int32_t> in_flight;
  for (const LaunchedStep& step : in_flight_) {
    for (const LaunchedChunk& chunk : step.chunks) ++in_flight[chunk.sequence];
  }
  const auto steps_of = [&](const Sequence* sequence) {
    const auto it = in_flight.find(sequence);
    return it == in_flight.end() ? 0 : it->second;
  };
  for (const auto& [id, owned] : sequences_) {
    const Sequence& sequence = *owned;
    live.push_back(&sequence.kv);
    (sequence.state == SequenceState::kWaiting ? waiting : running) += 1;
    const auto wrong = [id = id](const char* what) {
      return absl::StrCat("request ", id, ": ", what);
    };
    if (sequence.state == SequenceState::kEnded) return wrong("ended, and still listed");
    if (steps_of(&sequence) != sequence.num_in_flight)
      return wrong("miscounts its steps in flight");
    if (sequence.state == SequenceState::kWaiting && sequence.kv.tables[0].size() > 0)
      return wrong("waits with blocks");
    if (sequence.num_output() > sequence.num_sampled)
      return wrong("has more output than was drawn");
    if (sequence.num_computed > sequence.num_scheduled)
      return wrong("computed more than was scheduled");
    if (sequence.num_scheduled > sequence.kv.tables[0].size() * kv_.block_size())
      return wrong("outgrew its blocks");
  }
  for (const auto& sequence : ended_) {
    live.push_back(&sequence->kv);
    if (sequence->kv.tables[0].size() > 0) return "an ended request holds blocks";
    if (sequence->num_in_flight == 0) return "an ended request was not buried";
  }
  if (waiting != scheduler_.num_waiting() || running != scheduler_.num_running())
    return "the queues miscount";
  if (running > scheduler_.options().max_running) return "too many are running";
  return kv_.SelfCheck(live);
}

}  // namespace modu::engine
