// Decides, step by step, which sequences compute how many tokens. Decodes first, then prefill in
// chunks under the step's budget of tokens and time. The prompt with least left goes first, also
// one that waits before those that are read, so that a short one does not wait for a long one;
// equals go in order of arrival, as all would end late if they shared; half of the prefill is the
// oldest's in any case, so that a long one gets on; what is left lets in who waits. KV grows with
// the tokens; when it runs out, the least urgent youngest running sequence is preempted: its blocks
// go, and it is computed again later, its output behind the prompt. Where few sequences decode and
// a step has rows to spare, guesses at what comes next go with them (prompt_lookup.h). Engine
// thread only. Knows nothing of runners or clocks; owns no sequence.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/kv/kv_cache_manager.h"
#include "engine/scheduler/crowd.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/step_budget.h"
#include "engine/scheduler/waiting_queue.h"

namespace modu::engine {

struct SchedulerOptions {
  int32_t max_running = 64;
  int32_t max_step_tokens = 256;
  StepBudgetOptions step_budget;
  int32_t max_draft_tokens = 0;  // guessed for one sequence in one step; 0: none
  int32_t max_draft_rows = 8;    // decoded and guessed tokens of a step: more of them cost time
  int32_t max_scanned = 32;      // waiting sequences that one step looks at; at least 1
  int32_t max_passed =
      64;  // admissions that may overtake one that does not fit; then nobody passes it
  /// Looks at the queue, at most two a step, that pass over a sequence which waits for another to
  /// compute their common prefix.
  int32_t max_deferred = 2000;
};

struct PlannedChunk {
  Sequence* sequence = nullptr;
  int32_t first = 0;  // position of the first token to compute
  int32_t num_tokens = 0;
  int32_t num_drafts = 0;  // of num_tokens, the last: the sequence's drafts
  bool samples = false;    // the last certain one draws an output token, and so does each draft

  /// Its tokens were all generated; else some, of a phased runner all, are the prompt's.
  bool generated() const { return first >= sequence->num_prompt; }
};

/// One step, in the order of the batch. Lives on in the scheduler's caller to be reused without
/// allocation.
struct StepPlan {
  std::vector<PlannedChunk> chunks;
  std::vector<Sequence*> admitted;  // new in running; their sampler state is to be made
  std::vector<Sequence*> preempted;
  int32_t num_tokens = 0;
  /// Not 0: of one prompt alone, more tokens than the step would have if somebody were waiting; it
  /// would have these.
  int32_t least_tokens = 0;
  StepShape shape;
  void Clear();
};

/// Counts since the start.
struct SchedulerCounts {
  uint64_t preemptions = 0;
  uint64_t prefix_queries_tokens = 0, prefix_hits_tokens = 0;
  uint64_t prompt_tokens_cached = 0;      // of first admissions
  uint64_t prompt_tokens_recomputed = 0;  // computed again after a preemption
  uint64_t drafts = 0, draft_tokens = 0;
};

class Scheduler {
 public:
  /// max_running is lowered to max_step_tokens, so that every running sequence can decode in every
  /// step.
  Scheduler(SchedulerOptions options, KvCacheManager* kv);

  void Add(Sequence* sequence);
  /// Takes it out wherever it is and gives its blocks back. The only way out.
  void Remove(Sequence* sequence);

  /// Plans step `step` (rising, from 1). Tokens that step `step - 1` draws may not be known yet:
  /// then they are fed by reference to it; tokens that an earlier unfinished step draws wait one
  /// step.
  void Plan(uint64_t step, StepPlan* plan);
  /// The last tokens of its chunk in the last step were not computed, so that none was drawn either
  /// if one was to be.
  void TakeBack(Sequence* sequence, int32_t num_tokens, bool sampled);
  /// A step of that shape took so long.
  void Learn(const StepShape& shape, int64_t ns) { step_budget_.Learn(shape, ns); }

  int32_t num_waiting() const { return waiting_.size(); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  const std::vector<Sequence*>& running() const { return running_; }
  const SchedulerCounts& counts() const { return counts_; }
  const SchedulerOptions& options() const { return options_; }
  const StepBudget& step_budget() const { return step_budget_; }

 private:
  void PlanDecodes(StepPlan* plan);
  int32_t LeastTokens(const StepPlan& plan) const;
  int32_t DraftsEach() const;
  /// Grows the KV and notes the drafts; 0: no draft, or no room for it.
  int32_t Draft(Sequence* sequence, int32_t max_tokens);
  void PlanPrefills(StepPlan* plan);
  void PlanPrefill(Sequence* sequence, StepPlan* plan);
  /// Whom to let in: of priorities from the first to the last, with fewer tokens left to compute
  /// than shorter_than.
  struct Door {
    int64_t first_priority = INT64_MIN, last_priority = INT64_MAX;
    int32_t shorter_than = INT32_MAX;
  };
  void Admit(const Door& door, StepPlan* plan);
  bool Fits(const Sequence& sequence, const PrefixHit& hit) const;
  /// Blocks that it does not hold yet of those for `num_tokens`.
  int32_t BlocksMissing(int group, const Sequence& sequence, int32_t num_tokens) const;
  /// Whether the next block that the sequence misses is just being computed by a running one.
  bool PrefixUnderWay(const Sequence& sequence, int32_t num_hit, int32_t limit);
  /// The same, as far as what this plan has found tells; costs a comparison and no look-up.
  bool WaitsLikeAnother(const Sequence& sequence, int32_t limit) const;
  bool MayWaitFor(const Sequence& leader, const Sequence& sequence, int32_t end) const;
  int32_t HitLimit(const Sequence& sequence) const;
  void AddChunk(Sequence* sequence, int32_t num_tokens, int32_t num_drafts, StepPlan* plan);
  /// Sequences that will decode together soon, where a step decodes so many tokens now.
  int32_t NumComing(int32_t decodes);
  /// Those that wait and for whom there are places and KV.
  void AddWaiting(Newcomers* newcomers);
  /// Sequences of so many tokens that may run beside those that do.
  int32_t PlacesFor(int32_t tokens_each) const;
  Sequence* Victim() const;
  void Preempt(Sequence* sequence, StepPlan* plan);
  int32_t budget(const StepPlan& plan) const {
    return options_.max_step_tokens - plan.num_tokens - held_.tokens;
  }

  SchedulerOptions options_;
  KvCacheManager* kv_;
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;     // RunsBefore order
  std::vector<Sequence*> candidates_;  // scratch, as the next
  std::vector<Sequence*> prefills_;
  struct Awaited {
    const Sequence* leader;
    int32_t end;  // of the block that it computes and others miss
  };
  std::vector<Awaited> awaited_;
  StepBudget step_budget_;
  Crowd crowd_;
  StepBudget::Share held_;  // for the oldest prompt, while others are planned
  uint64_t step_ = 0;
  SchedulerCounts counts_;
};

}  // namespace modu::engine
