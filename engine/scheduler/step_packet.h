// Lays a plan out as the flat packet that a runner takes, and notes what its answer will mean.
// Engine thread only.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/runner/model_runner.h"
#include "engine/scheduler/scheduler.h"

namespace modu::engine {

/// What a launched step holds of one sequence.
struct LaunchedChunk {
  Sequence* sequence = nullptr;
  int32_t epoch = 0;      // of the sequence, at launch
  int32_t end = 0;        // tokens in KV once the step is done, drafts apart
  int32_t first_row = 0;  // sample rows: prompt log probabilities first, then the drawn token
  int32_t num_prompt_rows = 0;
  int32_t first_prompt_token = 0;  // the prompt token that the first prompt row reports
  bool samples = false;
  int32_t num_drafts = 0;  // rows after the drawn token's, one for each guess

  int32_t num_rows() const { return num_prompt_rows + (samples ? 1 : 0) + num_drafts; }
};

/// Fills `input` and `launched` from the plan's chunks, and moves each sequence's marks
/// (num_sampled, sampled_in_step, next_prompt_logprob, num_in_flight) forward. Chunks of sequences
/// that have ended since the plan are left out; those of generated tokens come first. No chunk in
/// `launched`: nothing to launch. `input` is empty, or the packet of an earlier step.
void BuildStepPacket(uint64_t step, const StepPlan& plan, int32_t block_size, int num_groups,
                     ForwardInput* input, std::vector<LaunchedChunk>* launched);

}  // namespace modu::engine
