// A request on its way through the engine. Owned by the engine, never leaves its thread: what
// leaves is copied.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/kv/kv_cache_manager.h"
#include "engine/request/request.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/prompt_lookup.h"

namespace modu::engine {

struct TenantAccount;

enum class SequenceState : uint8_t { kWaiting, kRunning, kEnded };

struct Sequence {
  Request request;     // prompt_ids moved into tokens
  uint64_t order = 0;  // rising with Submit: who came first
  SequenceState state = SequenceState::kWaiting;

  std::vector<int32_t> tokens;  // prompt, then every output token the host knows
  int32_t num_prompt = 0;
  int32_t num_sampled = 0;  // output tokens drawn or to be drawn by launched steps; may lead tokens
  int32_t num_scheduled = 0;  // tokens whose KV launched steps (or the prefix cache) provide
  int32_t num_computed = 0;   // the same, of completed steps

  int32_t num_in_flight = 0;  // launched steps that name it and have not been waited for
  uint64_t sampled_in_step =
      0;  // step that draws the newest output token, and its sample row there
  int32_t sampled_in_row = -1;
  // Guessed tokens of the launched step, after the last one that is known; until they are judged no
  // other step knows where this sequence stands.
  std::vector<int32_t> drafts;
  DraftHistory draft_history;
  int32_t epoch = 0;  // preemptions: KV that a step computed for an older epoch is gone
  SamplerSlot slot = -1;
  int32_t next_prompt_logprob =
      0;  // first prompt token whose log probability no launched step reports; 0: none wanted

  SequenceKv kv;
  TenantAccount* account = nullptr;
  uint64_t planned_in_step = 0;  // the plan that last contained it
  int32_t times_passed = 0;      // admissions of later requests while this one did not fit
  int32_t times_deferred = 0;    // plans in which it waited for another's prefix

  int32_t num_cached = 0;  // prompt tokens found in the prefix cache at first admission
  RequestTimes times;

  int32_t num_output() const { return static_cast<int32_t>(tokens.size()) - num_prompt; }
  /// Tokens it will have once all launched steps have completed.
  int32_t num_total() const { return num_prompt + num_sampled; }
  int32_t num_pending() const { return num_total() - num_scheduled; }
  /// Is there anything left to schedule? The last output token is never fed back.
  bool wants_step() const {
    return num_scheduled < num_prompt ||
           (num_sampled < request.sampling.max_tokens && num_pending() > 0);
  }
  /// Of the tokens from position `first` on, those of its phase: a chunk holds no others.
  int32_t num_alike(int32_t first) const {
    const int32_t left = num_total() - first, of_prompt = kv.first_generated - first;
    return of_prompt > 0 ? std::min(left, of_prompt) : left;
  }
  int32_t num_pending_alike() const { return num_alike(num_scheduled); }
  /// What is to be computed next was computed before, as generated tokens, whose cost is their own.
  bool recomputes_answer() const { return num_scheduled >= kv.first_generated; }
  bool decoding() const { return num_sampled > 0 && num_pending() == 1; }
};

/// Better priority first, then who came first.
inline bool RunsBefore(const Sequence* a, const Sequence* b) {
  if (a->request.priority != b->request.priority) return a->request.priority < b->request.priority;
  if (a->request.arrival_ns != b->request.arrival_ns)
    return a->request.arrival_ns < b->request.arrival_ns;
  return a->order < b->order;
}

}  // namespace modu::engine
