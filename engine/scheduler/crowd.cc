#include "engine/scheduler/crowd.h"

#include <algorithm>

namespace modu::engine {
namespace {

constexpr double kAnswerShare = 0.02;  // of an answer in what is remembered, once there were many

}  // namespace

void Crowd::Learn(const Sequence& ended) {
  const int32_t answer = ended.num_output();
  if (answer == 0) return;
  if (answer >= ended.request.sampling.max_tokens && answer < answer_tokens_) return;
  const double share = std::max(kAnswerShare, 1.0 / (static_cast<double>(++answers_seen_) + 1));
  answer_tokens_ += share * (answer - answer_tokens_);
}

int32_t Crowd::AnswerLeft(const Sequence& sequence) const {
  const double whole = std::min<double>(sequence.request.sampling.max_tokens, answer_tokens_);
  return std::max(0, static_cast<int32_t>(whole) - sequence.num_sampled);
}

void Crowd::Add(const Sequence& sequence, const StepBudget& budget, Newcomers* newcomers) const {
  newcomers->sequences += 1;
  newcomers->prefill_ns += budget.PrefillNs(sequence.num_scheduled, sequence.num_pending());
  newcomers->answer_tokens += AnswerLeft(sequence);
}

int32_t Crowd::Forecast(int32_t decodes, const Newcomers& newcomers,
                        const StepBudget& budget) const {
  const double n = newcomers.sequences;
  if (n == 0) return decodes;
  // A step that takes max_slowdown times as long as its decodes has room for max_slowdown - 1 times
  // those, as often as an answer has tokens. What k newcomers' prompts take beyond that room lies
  // on a line over k.
  const double answers = newcomers.answer_tokens / n * std::max(0.0, budget.max_slowdown() - 1);
  const double none = -answers * budget.DecodeNs(decodes);
  const double all =
      newcomers.prefill_ns - answers * budget.DecodeNs(decodes + static_cast<int32_t>(n));
  return decodes + static_cast<int32_t>(all <= 0 ? n : n * none / (none - all));
}

}  // namespace modu::engine
