// The engine without its thread: requests in, steps, events out, all on whichever one thread calls
// it. Owns the runner, the KV, the scheduler and every Sequence. engine.cc puts a thread and an
// inbox around it.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/kv/kv_cache_manager.h"
#include "engine/scheduler/scheduler.h"
#include "engine/scheduler/step_packet.h"

namespace modu::engine {

class EngineCore {
 public:
  EngineCore(std::unique_ptr<ModelRunner> runner, const EngineOptions& options, const Clock* clock,
             EventSink* sink);
  ~EngineCore();  // FinishAll must have run

  /// The longest sequence, in tokens held in KV, that the pools can hold alone.
  int32_t max_kv_tokens() const;

  /// The request has passed ValidateRequest.
  void Add(Request request);
  void Cancel(RequestId id);
  /// Ends everything as cancelled and waits for what is in flight.
  void FinishAll();

  /// ModelRunner::WatchArrivals
  void WatchArrivals(const std::atomic<bool>* arrived) { runner_->WatchArrivals(arrived); }
  /// One turn: expire, launch up to the pipeline's depth, wait for the oldest step, emit. False:
  /// nothing moved.
  bool RunOnce();
  bool idle() const { return sequences_.empty() && in_flight_.empty(); }

  void FillStats(EngineStats* stats) const;
  /// Clock time at which the step being waited for was launched; 0: none. The caller publishes it.
  void set_on_wait(void (*on_wait)(void* context, int64_t launched_ns), void* context) {
    on_wait_ = on_wait;
    on_wait_context_ = context;
  }
  /// Called before anything is delivered: whoever hears of an event finds it in the stats.
  void set_before_deliver(void (*before_deliver)(void* context), void* context) {
    before_deliver_ = before_deliver;
    before_deliver_context_ = context;
  }
  std::string SelfCheck() const;

 private:
  struct LaunchedStep {
    StepHandle handle;
    absl::Status status;  // not OK: the launch itself failed
    int32_t num_tokens = 0, least_tokens = 0;
    int64_t launched_ns = 0, schedule_ns = 0;
    StepShape shape;
    std::vector<LaunchedChunk> chunks;
  };

  bool LaunchStep();
  void StartSlot(Sequence* sequence);
  void EndSlotIfUnused(Sequence* sequence);
  void CompleteStep();
  StepOutput WaitFor(const LaunchedStep& step);
  void CutShort(int32_t num_tokens, LaunchedStep* step);
  void CompleteChunk(const LaunchedChunk& chunk, StepOutput& output, int64_t now_ns);
  void EmitPromptLogprobs(const LaunchedChunk& chunk, StepOutput& output);
  void FailNumeric(Sequence* sequence);
  /// The drawn token, and those after it whose guesses were right.
  void TakeTokens(const LaunchedChunk& chunk, StepOutput& output, int64_t now_ns);
  void TakeToken(Sequence* sequence, SampledRow& row, int64_t now_ns);
  void ExpireDeadlines();
  void NoteDeadline(const Sequence& sequence);
  /// The one place where a request ends: blocks back, slot back (once no step names it), Terminal
  /// out.
  void End(Sequence* sequence, FinishReason reason, absl::Status status,
           int32_t stop_token_id = -1);
  void BuryEnded();
  void Deliver();

  std::unique_ptr<ModelRunner> runner_;
  const RunnerSpec spec_;
  const Clock* clock_;
  EventSink* sink_;
  KvCacheManager kv_;
  Scheduler scheduler_;
  const int pipeline_depth_;

  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::vector<std::unique_ptr<Sequence>> ended_;  // until no step in flight names them
  std::deque<LaunchedStep> in_flight_;
  std::vector<std::vector<LaunchedChunk>> spare_chunks_;
  std::vector<ForwardInput> spare_inputs_;
  StepPlan plan_;
  StepEvents events_;
  uint64_t next_step_ = 1, next_order_ = 1;
  int64_t next_deadline_ns_ = INT64_MAX;  // no deadline passes before it
  std::vector<Sequence*> expired_;        // scratch

  void (*on_wait_)(void*, int64_t) = nullptr;
  void* on_wait_context_ = nullptr;
  void (*before_deliver_)(void*) = nullptr;
  void* before_deliver_context_ = nullptr;
  uint64_t num_steps_ = 0, steps_cut_short_ = 0, prompt_tokens_ = 0, generation_tokens_ = 0,
           accepted_draft_tokens_ = 0;
  int64_t last_step_ns_ = 0;
};

}  // namespace modu::engine
