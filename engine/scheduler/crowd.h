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

/// Sums over those that wait or are being read.
struct Newcomers {
  double sequences = 0;
  double prefill_ns = 0;     // that the rest of their prompts takes
  double answer_tokens = 0;  // that they will likely draw
};

class Crowd {
 public:
  /// It ended. An answer that never began, or that its own limit cut short, says nothing of usual
  /// ones.
  void Learn(const Sequence& ended);

  /// Output tokens that it will likely still draw: those of a usual answer, but for its limit.
  int32_t AnswerLeft(const Sequence& sequence) const;
  void Add(const Sequence& sequence, const StepBudget& budget, Newcomers* newcomers) const;

  /// Sequences that will decode together, at least `decodes`: so many tokens a step decodes now.
  int32_t Forecast(int32_t decodes, const Newcomers& newcomers, const StepBudget& budget) const;

 private:
  double answer_tokens_ = 128;  // of a usual answer; before any is known, that of a chat
  int64_t answers_seen_ = 0;
};

}  // namespace modu::engine
