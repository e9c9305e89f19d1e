#include "engine/scheduler/crowd.h"

#include <algorithm>

namespace modu::engine {
namespace {

constexpr double kAnswerShare = 0.02;  // of an answer in what is remembered, once there were many

}  // namespace

void Crowd::Learn(const Sequence& ended) {
  const int32_t answer = ended.num_output();
  if (answer >= ended.request.sampling.max_tokens && answer < answer_tokens_) return;
  const double share = std::max(kAnswerShare, 1.0 / (static_cast<double>(++answers_seen_) + 1));
  answer_tokens_ += share * (answer - answer_tokens_);
}

void Crowd::Add(const Sequence& sequence, Newcomers* newcomers) const {
  ++newcomers->sequences;
  newcomers->prompt_tokens += sequence.num_pending();
  newcomers->answer_tokens +=
      std::min<int64_t>(sequence.request.sampling.max_tokens, static_cast<int64_t>(answer_tokens_));
}

int32_t Crowd::Forecast(int32_t decodes, const Newcomers& newcomers,
                        const StepBudget& budget) const {
  if (newcomers.sequences == 0) return decodes;
  // n are read in n * each, of which a step that takes `slowdown` as long as its decodes has room
  // for slowdown - 1 times those. Both sides grow with n along a line.
  const auto each = static_cast<int32_t>(newcomers.prompt_tokens / newcomers.sequences);
  const double answer = static_cast<double>(newcomers.answer_tokens) / newcomers.sequences;
  const double room = answer * std::max(0.0, budget.max_slowdown() - 1);
  const auto too_much = [&](int32_t n) {  // ns of reading beyond what an answer has room for
    return budget.PrefillNs(0, each) * n - room * budget.DecodeNs(decodes + n);
  };
  const double none = too_much(0), all = too_much(newcomers.sequences);
  if (all <= 0) return decodes + newcomers.sequences;
  return decodes + static_cast<int32_t>(newcomers.sequences * none / (none - all));
}

}  // namespace modu::engine
