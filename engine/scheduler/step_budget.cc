#include "engine/scheduler/step_budget.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace modu::engine {
namespace {

// Inputs are scaled to be about 1 in a usual step, so that one step size suits all weights.
constexpr double kDecodes = 1.0 / 16, kTokens = 1.0 / 64, kPairs = 1.0 / (64 * 1024);
constexpr double kStepSize = 0.3;
// A step that took far longer than it should have (the system took the core away) says little about
// the next.
constexpr double kMaxSurprise = 2.0;

}  // namespace

template <int kInputs>
double LearnedTime<kInputs>::Predict(const Inputs& x) const {
  double ns = 0;
  for (int i = 0; i < kInputs; ++i) ns += weights_[i] * x[i];
  return ns;
}

template <int kInputs>
void LearnedTime<kInputs>::Learn(const Inputs& x, double ns) {
  double norm = 0;
  for (int i = 0; i < kInputs; ++i) norm += x[i] * x[i];
  if (norm <= 0) return;
  const double predicted = Predict(x);
  double error = ns - predicted;
  if (num_learned_ > 0) error = std::min(error, kMaxSurprise * std::max(predicted, 1e5));
  // The first steps are believed whole, later ones less and less.
  const double step = std::max(kStepSize, 1.0 / static_cast<double>(++num_learned_));
  for (int i = 0; i < kInputs; ++i) {
    weights_[i] = std::max(0.0, weights_[i] + step * error * x[i] / norm);
  }
}

template class LearnedTime<2>;

double StepBudget::DecodeNs(int32_t decodes) const {
  return decodes == 0 ? 0 : decode_.Predict({1.0, kDecodes * decodes});
}

double StepBudget::PrefillNs(int32_t first, int32_t num_tokens) const {
  return prefill_.Predict(
      {kTokens * num_tokens, kPairs * static_cast<double>(PrefillPairs(first, num_tokens))});
}

void StepBudget::Learn(const StepShape& shape, int64_t ns) {
  if (ns <= 0) return;
  if (shape.prefill_tokens == 0) {
    decode_.Learn({1.0, kDecodes * shape.decodes}, static_cast<double>(ns));
    return;
  }
  const double rest = static_cast<double>(ns) - DecodeNs(shape.decodes);
  prefill_.Learn(
      {kTokens * shape.prefill_tokens, kPairs * static_cast<double>(shape.prefill_pairs)},
      std::max(0.0, rest));
}

void StepBudget::Begin(int32_t decodes) {
  left_minimum_ = options_.min_prefill_tokens;
  left_ns_ = std::numeric_limits<double>::infinity();
  // Nobody waits for the step's end, or nothing is known yet.
  if (decodes == 0 || options_.max_slowdown <= 0 || !prefill_.knows()) return;
  const double alone = DecodeNs(decodes);
  const double most =
      std::max(options_.max_slowdown * alone, static_cast<double>(options_.min_step_ns));
  left_ns_ = most - alone;
}

int32_t StepBudget::Fit(int32_t first, int32_t wanted) const {
  if (wanted <= left_minimum_ || PrefillNs(first, wanted) <= left_ns_) return wanted;
  // The largest n with a*n + b*n^2 <= left.
  const double pair = kPairs * prefill_.weight(1);
  const double a = kTokens * prefill_.weight(0) + pair * (first + 0.5), b = pair / 2;
  const double left = std::max(0.0, left_ns_);
  const double root = a + std::sqrt(a * a + 4 * b * left);
  const double n = root > 0 ? 2 * left / root : wanted;
  return std::clamp(static_cast<int32_t>(std::min<double>(n, wanted)), std::max(0, left_minimum_),
                    wanted);
}

void StepBudget::Take(int32_t first, int32_t num_tokens) { Hold(first, num_tokens); }

StepBudget::Share StepBudget::Hold(int32_t first, int32_t num_tokens) {
  const Share share{num_tokens, PrefillNs(first, num_tokens)};
  left_ns_ -= share.ns;
  left_minimum_ -= share.tokens;
  return share;
}

void StepBudget::GiveBack(const Share& share) {
  left_ns_ += share.ns;
  left_minimum_ += share.tokens;
}

}  // namespace modu::engine
