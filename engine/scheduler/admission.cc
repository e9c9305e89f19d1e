// The scheduler's door: who of those that wait comes in, and how many that will be.
#include <algorithm>
#include <cstdint>

#include "engine/scheduler/scheduler.h"

namespace modu::engine {

int32_t Scheduler::NumComing(int32_t decodes) {
  if (decodes == 0 || options_.step_budget.max_slowdown <= 0) return decodes;
  Newcomers all;
  for (const Sequence* sequence : running_) {
    if (!sequence->decoding() && sequence->wants_step()) crowd_.Add(*sequence, step_budget_, &all);
  }
  AddWaiting(&all);
  return crowd_.Forecast(decodes, all, step_budget_);
}

void Scheduler::AddWaiting(Newcomers* newcomers) {
  if (num_waiting() == 0 || num_running() >= options_.max_running) return;
  Newcomers first;  // the others are taken to be like them
  int64_t tokens = 0;
  WaitingQueue::Walk walk(waiting_);
  while (first.sequences < options_.max_scanned) {
    const Sequence* sequence = walk.Next();
    if (sequence == nullptr) break;
    crowd_.Add(*sequence, step_budget_, &first);
    tokens += sequence->num_total() + crowd_.AnswerLeft(*sequence);
  }
  const auto each = static_cast<int32_t>(tokens / static_cast<int64_t>(first.sequences));
  const int32_t places = std::min(num_waiting(), PlacesFor(each));
  // What the prefix cache will spare them is not looked up: as much as it did for those before.
  const double hits = counts_.prefix_queries_tokens == 0
                          ? 0
                          : static_cast<double>(counts_.prefix_hits_tokens) /
                                static_cast<double>(counts_.prefix_queries_tokens);
  newcomers->sequences += places;
  newcomers->prefill_ns += first.prefill_ns / first.sequences * places * (1 - hits);
  newcomers->answer_tokens += first.answer_tokens / first.sequences * places;
}

int32_t Scheduler::PlacesFor(int32_t tokens_each) const {
  int32_t places = options_.max_running - num_running();
  for (int g = 0; g < kv_->num_groups(); ++g) {
    int32_t free = kv_->available(g);
    for (const Sequence* other : running_) {
      free -= BlocksMissing(g, *other, other->num_total() + crowd_.AnswerLeft(*other));
    }
    places = std::min(places, free / std::max(1, kv_->BlocksFor(g, tokens_each)));
  }
  return std::max(0, places);
}

int32_t Scheduler::BlocksMissing(int group, const Sequence& sequence, int32_t num_tokens) const {
  const int32_t held = sequence.kv.tables[group].num_held();
  return std::max(0, kv_->BlocksFor(group, num_tokens) - held);
}

int32_t Scheduler::HitLimit(const Sequence& sequence) const {
  // The last token is always computed, for its logits; so is every row whose log probability is
  // still wanted.
  int32_t limit = sequence.num_total() - 1;
  if (sequence.next_prompt_logprob > 0 && sequence.next_prompt_logprob < sequence.num_prompt) {
    limit = std::min(limit, sequence.next_prompt_logprob - 1);
  }
  return limit;
}

bool Scheduler::Fits(const Sequence& sequence, const PrefixHit& hit) const {
  for (int g = 0; g < kv_->num_groups(); ++g) {
    int64_t needed = kv_->BlocksFor(g, sequence.num_total());
    // Shared blocks need no space, but those that are idle now can no longer be evicted.
    const int32_t shared =
        std::min<int32_t>(kv_->BlocksFor(g, hit.num_tokens), hit.num_tokens / kv_->block_size());
    needed -= std::min<int64_t>(needed, shared);
    needed += hit.idle_blocks[g];
    // What those before it still need for tokens they have, and one block more.
    for (const Sequence* other : running_) {
      needed += BlocksMissing(g, *other, other->num_total()) + 1;
    }
    if (needed > kv_->available(g)) return false;
  }
  return true;
}

bool Scheduler::MayWaitFor(const Sequence& leader, const Sequence& sequence, int32_t end) const {
  // Not for one that stands still, such as a less urgent one that others go before.
  if (leader.num_scheduled < end && leader.planned_in_step + 1 < step_) return false;
  return leader.kv.scope == sequence.kv.scope &&
         std::min(leader.kv.first_generated, end) == std::min(sequence.kv.first_generated, end) &&
         std::equal(leader.tokens.begin(), leader.tokens.begin() + end, sequence.tokens.begin());
}

bool Scheduler::PrefixUnderWay(const Sequence& sequence, int32_t num_hit, int32_t limit) {
  const int32_t end = num_hit + kv_->block_size();
  if (!kv_->caches_prefixes() || end > limit) return false;
  for (const Sequence* other : running_) {
    if (other->num_computed >= end || static_cast<int32_t>(other->tokens.size()) < end) continue;
    if (!MayWaitFor(*other, sequence, end)) continue;
    awaited_.push_back({other, end});
    return true;
  }
  return false;
}

bool Scheduler::WaitsLikeAnother(const Sequence& sequence, int32_t limit) const {
  return std::ranges::any_of(awaited_, [&](const Awaited& awaited) {
    return awaited.end <= limit && MayWaitFor(*awaited.leader, sequence, awaited.end);
  });
}

void Scheduler::Admit(const Door& door, StepPlan* plan) {
  if (waiting_.size() == 0) return;
  candidates_.clear();  // those that do not fit and were looked at before
  awaited_.clear();
  WaitingQueue::Walk walk(waiting_);
  for (int32_t scanned = 0; scanned < options_.max_scanned;) {
    if (budget(*plan) <= 0 || num_running() >= options_.max_running) return;
    Sequence* sequence = walk.Next();
    if (sequence == nullptr || sequence->request.priority > door.last_priority) return;
    if (sequence->request.priority < door.first_priority) continue;
    // A preempted one comes back once no launched step names it (until then it does not know its
    // own history) and its sampler slot has been given back, so never in the plan that preempted
    // it.
    if (sequence->num_in_flight > 0 || sequence->slot >= 0) continue;
    const int32_t limit = HitLimit(*sequence);
    const bool may_wait = sequence->times_deferred < options_.max_deferred;
    // A crowd that waits for one prefix must not hide who waits behind it for nothing.
    if (may_wait && WaitsLikeAnother(*sequence, limit)) {
      ++sequence->times_deferred;
      continue;
    }
    ++scanned;
    const PrefixHit hit = kv_->Match(sequence->kv, sequence->tokens, limit);
    if (may_wait && PrefixUnderWay(*sequence, hit.num_tokens, limit)) {
      ++sequence->times_deferred;
      continue;
    }
    if (num_running() > 0 && !Fits(*sequence, hit)) {
      if (sequence->times_passed >= options_.max_passed) return;
      candidates_.push_back(sequence);
      continue;
    }
    if (sequence->num_total() - hit.num_tokens >= door.shorter_than) continue;
    const int32_t wanted = std::min(sequence->num_alike(hit.num_tokens), budget(*plan));
    if (step_budget_.Fit(hit.num_tokens, wanted) == 0) return;
    for (Sequence* passed : candidates_) ++passed->times_passed;
    kv_->Attach(hit, &sequence->kv);
    sequence->num_scheduled = sequence->num_computed = hit.num_tokens;
    counts_.prefix_queries_tokens += sequence->tokens.size();
    counts_.prefix_hits_tokens += hit.num_tokens;
    if (sequence->epoch == 0) {
      sequence->num_cached = hit.num_tokens;
      counts_.prompt_tokens_cached += hit.num_tokens;
    } else {
      counts_.prompt_tokens_recomputed += sequence->tokens.size() - hit.num_tokens;
    }
    waiting_.Remove(sequence);
    sequence->state = SequenceState::kRunning;
    running_.insert(std::ranges::upper_bound(running_, sequence, RunsBefore), sequence);
    plan->admitted.push_back(sequence);
    PlanPrefill(sequence, plan);
  }
}

}  // namespace modu::engine
