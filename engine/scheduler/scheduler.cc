#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <cstdint>

#include "kernels/check.h"

namespace modu::engine {

void StepPlan::Clear() {
  chunks.clear();
  admitted.clear();
  preempted.clear();
  num_tokens = least_tokens = 0;
  shape = StepShape();
}

Scheduler::Scheduler(SchedulerOptions options, KvCacheManager* kv)
    : options_(options), kv_(kv), step_budget_(options.step_budget) {
  MODU_CHECK(options_.max_step_tokens > 0 && options_.max_running > 0 && options_.max_scanned > 0);
  options_.max_running = std::min(options_.max_running, options_.max_step_tokens);
}

void Scheduler::Add(Sequence* sequence) {
  if (num_running() + num_waiting() > 0) step_budget_.Arrived();
  sequence->state = SequenceState::kWaiting;
  waiting_.OpenAccount(sequence);
  waiting_.Push(sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  if (sequence->state == SequenceState::kWaiting) {
    waiting_.Remove(sequence);
  } else {
    MODU_CHECK(sequence->state == SequenceState::kRunning);
    MODU_CHECK(std::erase(running_, sequence) == 1);
  }
  kv_->ForgetGenerated(&sequence->kv);
  kv_->Release(&sequence->kv);
  waiting_.CloseAccount(sequence);
  crowd_.Learn(*sequence);
  sequence->state = SequenceState::kEnded;
}

void Scheduler::Plan(uint64_t step, StepPlan* plan) {
  MODU_CHECK(step >= step_);  // the same again after an empty plan
  step_ = step;
  plan->Clear();
  PlanDecodes(plan);
  const int32_t decodes = plan->shape.decodes;
  plan->shape.bound_ns = step_budget_.Begin(decodes, NumComing(decodes));
  PlanPrefills(plan);
  plan->least_tokens = LeastTokens(*plan);
}

int32_t Scheduler::LeastTokens(const StepPlan& plan) const {
  if (plan.chunks.size() != 1 || plan.shape.prefill_tokens != plan.num_tokens) return 0;
  // Nobody could come in, or those who wait could not either.
  if (num_running() >= options_.max_running || waiting_.size() > 0) return 0;
  const PlannedChunk& chunk = plan.chunks.front();
  const int32_t least = step_budget_.FitAwaited(chunk.first, chunk.num_tokens);
  return least < chunk.num_tokens && !chunk.generated() ? least : 0;
}

void Scheduler::TakeBack(Sequence* sequence, int32_t num_tokens, bool sampled) {
  sequence->num_scheduled -= num_tokens;
  sequence->num_sampled -= sampled ? 1 : 0;
  sequence->account->served_tokens -= num_tokens;
}

Sequence* Scheduler::Victim() const {
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if ((*it)->planned_in_step != step_) return *it;
  }
  return nullptr;
}

void Scheduler::Preempt(Sequence* sequence, StepPlan* plan) {
  // Steps in flight may still write to these blocks; steps take effect in launch order, so whoever
  // gets the blocks next writes after them.
  kv_->Release(&sequence->kv);
  MODU_CHECK(std::erase(running_, sequence) == 1);
  sequence->num_scheduled = sequence->num_computed = 0;
  ++sequence->epoch;
  ++counts_.preemptions;
  sequence->state = SequenceState::kWaiting;
  waiting_.Push(sequence);
  plan->preempted.push_back(sequence);
}

void Scheduler::AddChunk(Sequence* sequence, int32_t num_tokens, int32_t num_drafts,
                         StepPlan* plan) {
  PlannedChunk chunk;
  chunk.sequence = sequence;
  chunk.first = sequence->num_scheduled;
  chunk.num_tokens = num_tokens + num_drafts;
  chunk.num_drafts = num_drafts;
  chunk.samples = chunk.first + num_tokens == sequence->num_total() &&
                  sequence->num_sampled < sequence->request.sampling.max_tokens;
  plan->chunks.push_back(chunk);
  plan->num_tokens += chunk.num_tokens;
  sequence->num_scheduled += num_tokens;
  sequence->planned_in_step = step_;
  sequence->account->served_tokens += num_tokens;
}

int32_t Scheduler::DraftsEach() const {
  if (options_.max_draft_tokens == 0 || waiting_.size() > 0 || running_.empty()) return 0;
  const bool all_decode = std::ranges::all_of(running_, &Sequence::decoding);
  for (int g = 0; g < kv_->num_groups(); ++g) {  // a guess must not cost anyone its place
    if (kv_->available(g) < 2 * num_running()) return 0;
  }
  const int32_t rows = std::min(options_.max_draft_rows, options_.max_step_tokens);
  const int32_t spare = all_decode ? rows / num_running() - 1 : 0;
  return std::clamp(spare, 0, options_.max_draft_tokens);
}

int32_t Scheduler::Draft(Sequence* sequence, int32_t max_tokens) {
  // The last output token is never fed back, so that nothing is guessed after it.
  const int32_t left = sequence->request.sampling.max_tokens - sequence->num_sampled - 1;
  const bool known =
      sequence->num_in_flight == 0 && sequence->num_scheduled + 1 == sequence->num_total();
  if (max_tokens == 0 || left <= 0 || !known) return 0;
  const int32_t wanted = sequence->draft_history.Propose(std::min(max_tokens, left));
  LookUpDraft(sequence->tokens, wanted, &sequence->drafts);
  const auto num_drafts = static_cast<int32_t>(sequence->drafts.size());
  if (num_drafts > 0 && kv_->Grow(&sequence->kv, sequence->num_scheduled + 1 + num_drafts)) {
    ++counts_.drafts;
    counts_.draft_tokens += num_drafts;
    return num_drafts;
  }
  sequence->drafts.clear();
  return 0;
}

void Scheduler::PlanDecodes(StepPlan* plan) {
  const int32_t drafts_each = DraftsEach();
  for (size_t i = 0; i < running_.size() && budget(*plan) > 0;) {
    Sequence* sequence = running_[i];
    ++i;
    if (!sequence->decoding() || !sequence->wants_step() || !sequence->drafts.empty()) continue;
    const bool known = sequence->num_scheduled < static_cast<int32_t>(sequence->tokens.size());
    if (!known && sequence->sampled_in_step + 1 != step_) continue;
    const int32_t num_drafts = Draft(sequence, std::min(drafts_each, budget(*plan) - 1));
    bool grown = kv_->Grow(&sequence->kv, sequence->num_scheduled + 1);
    while (!grown) {
      // Never null, and never one before this one in the list: this one is not planned yet itself.
      Sequence* victim = Victim();
      Preempt(victim, plan);
      if (victim == sequence) break;
      grown = kv_->Grow(&sequence->kv, sequence->num_scheduled + 1);
    }
    if (grown) {
      plan->shape.decodes += 1 + num_drafts;
      AddChunk(sequence, 1, num_drafts, plan);
    } else {
      --i;  // it left its place to the next
    }
  }
}

void Scheduler::PlanPrefills(StepPlan* plan) {
  prefills_.clear();
  for (Sequence* sequence : running_) {
    if (!sequence->decoding() && sequence->wants_step()) prefills_.push_back(sequence);
  }
  if (prefills_.empty()) return Admit({}, plan);
  Sequence* const oldest = prefills_.front();
  const int32_t urgency = oldest->request.priority;
  std::ranges::stable_sort(prefills_, [](const Sequence* a, const Sequence* b) {
    if (a->request.priority != b->request.priority)
      return a->request.priority < b->request.priority;
    return a->num_pending() < b->num_pending();
  });
  const int32_t first = oldest->num_scheduled;
  const int32_t alone =
      step_budget_.Fit(first, std::min(oldest->num_pending_alike(), std::max(0, budget(*plan))));
  held_ = step_budget_.Hold(first, (alone + 1) / 2);
  Admit({.last_priority = int64_t{urgency} - 1}, plan);
  // Who waits and is shorter than all that are read goes before them.
  Admit({urgency, urgency, prefills_.front()->num_pending()}, plan);
  auto next = prefills_.begin();
  for (; next != prefills_.end() && (*next)->request.priority == urgency; ++next) {
    if (*next == oldest) {
      step_budget_.GiveBack(held_);
      held_ = StepBudget::Share();
    }
    // It may have been preempted for another.
    if ((*next)->state == SequenceState::kRunning) PlanPrefill(*next, plan);
  }
  Admit({.last_priority = urgency}, plan);
  for (; next != prefills_.end(); ++next) {
    if ((*next)->state == SequenceState::kRunning) PlanPrefill(*next, plan);
  }
  Admit({.first_priority = int64_t{urgency} + 1}, plan);
}

void Scheduler::PlanPrefill(Sequence* sequence, StepPlan* plan) {
  const int32_t wanted = std::min(sequence->num_pending_alike(), budget(*plan));
  if (wanted <= 0) return;
  int32_t chunk = step_budget_.Fit(sequence->num_scheduled, wanted);
  if (chunk <= 0) return;
  int32_t room = kv_->GrowableTokens(sequence->kv) - sequence->num_scheduled;
  while (room <= 0) {
    Sequence* victim = Victim();
    if (victim == nullptr || !RunsBefore(sequence, victim)) return;
    Preempt(victim, plan);
    room = kv_->GrowableTokens(sequence->kv) - sequence->num_scheduled;
  }
  chunk = std::min(chunk, room);
  MODU_CHECK(kv_->Grow(&sequence->kv, sequence->num_scheduled + chunk));
  step_budget_.Take(sequence->num_scheduled, chunk);
  plan->shape.prefill_tokens += chunk;
  plan->shape.recomputes_answers |= sequence->recomputes_answer();
  plan->shape.prefill_pairs += PrefillPairs(sequence->num_scheduled, chunk);
  AddChunk(sequence, chunk, 0, plan);
}

}  // namespace modu::engine
