// The engine: one thread that owns scheduler, KV and runner without locks. Submit, Cancel and Stats
// may be called from any thread and never block; everything else happens on the engine thread. No
// globals: two engines can run in one process. A simulation drives RunOnce itself instead of Start.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/clock.h"
#include "engine/request/request.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/step_budget.h"

namespace modu::engine {

struct EngineOptions {
  int32_t max_running = 64;       // sequences that may hold KV at once
  int32_t max_step_tokens = 256;  // token budget of a step: decodes first, the rest prefill
  StepBudgetOptions step_budget;  // how long prefill may make a step
  int32_t max_draft_tokens =
      0;  // guessed and checked with a decode, where a step has room; 0: none
  bool prefix_cache = true;
  // How the prefix cache hashes a block of tokens after its parent's hash; null: the built-in one.
  // A test's seam.
  uint64_t (*block_hash)(uint64_t parent, std::span<const int32_t> tokens) = nullptr;
};

/// Read from real state at the time of the call; copied.
struct EngineStats {
  int32_t num_waiting = 0, num_running = 0;
  int64_t blocks_total = 0, blocks_free = 0, blocks_cached = 0, blocks_held = 0;
  uint64_t num_steps = 0, num_preemptions = 0;
  uint64_t steps_cut_short = 0;  // of a prompt alone, for somebody who arrived
  uint64_t prompt_tokens = 0, generation_tokens = 0, prompt_tokens_cached = 0,
           prompt_tokens_recomputed = 0;
  uint64_t prefix_queries_tokens = 0, prefix_hits_tokens = 0;
  uint64_t mixed_steps = 0, mixed_steps_over_bound = 0;  // with decodes and prefill
  uint64_t num_drafts = 0, draft_tokens = 0, accepted_draft_tokens = 0;
  int64_t last_step_ns = 0;     // Clock time the last step ended: the heartbeat
  int64_t step_started_ns = 0;  // of the step in flight, or 0
  uint64_t self_check_failures =
      0;  // idle recounts of blocks that did not balance: a bug, worth an alert
};

class Engine {
 public:
  Engine(std::unique_ptr<ModelRunner> runner, EngineOptions options, const Clock* clock,
         EventSink* sink);
  ~Engine();  // stops; running requests end as cancelled
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void Start();
  void Stop();

  /// kInvalidArgument: can never fit (names the field and the limit). kUnavailable:
  /// stopped. OK: exactly one TerminalEvent will follow.
  absl::Status Submit(Request request);
  /// Unknown or finished ids are ignored: cancelling twice or too late is no error.
  void Cancel(RequestId id);

  EngineStats Stats() const;
  const RunnerSpec& spec() const;

  /// One turn of the loop: take the inbox, schedule, launch, wait, emit. False: nothing to do.
  /// Simulation only.
  bool RunOnce();
  /// Recounts blocks, references, prefix cache and queues. Empty if all is well. Simulation only,
  /// between RunOnce calls.
  std::string SelfCheck() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::engine
