// How many sequences will decode together once the newcomers have come in: those that do, and of
// those that wait or are still being read as many as come in while one answer lasts, where steps
// take what so many of them are allowed (Little's law, by the queue's own pace). A crowd of short
// prompts with long answers will all decode at once; of long prompts with short answers each has
// gone before the next is there. Pure arithmetic, no clock.
#pragma once
#include <cstdint>

#include "engine/scheduler/sequence.h"
#include "engine/scheduler/step_budget.h"

namespace modu::engine {

struct Newcomers {
  int32_t sequences = 0;
  int64_t prompt_tokens = 0;  // still to be computed, of all of them together
  int64_t answer_tokens = 0;  // that they will likely have
};

class Crowd {
 public:
  /// It ended. An answer that its own limit cut short says nothing of usual ones.
  void Learn(const Sequence& ended);

  /// Its answer is taken to be a usual one, but for its limit.
  void Add(const Sequence& sequence, Newcomers* newcomers) const;
  /// Sequences that will decode together, at least `decodes`: so many tokens a step decodes now.
  int32_t Forecast(int32_t decodes, const Newcomers& newcomers, const StepBudget& budget) const;

 private:
  double answer_tokens_ = 128;  // of a usual answer; before any is known, that of a chat
  int64_t answers_seen_ = 0;
};

}  // namespace modu::engine
