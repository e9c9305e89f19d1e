#include "engine/scheduler/step_budget.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace modu::engine {
namespace {

// Counts are scaled to be about 1 in a usual step, so that one step size suits all weights.
constexpr double kDecodes = 1.0 / 16, kTokens = 1.0 / 64, kPairs = 1.0 / (64 * 1024);
constexpr double kStepSize = 0.3;
// A step that took far longer than it should have (the system took the core away) says little about
// the next.
constexpr double kMaxSurprise = 2.0;
constexpr double kLeastSurpriseNs = 1e5;
constexpr double kDeviations = 2.0;      // that a mixed step is planned to stay below the bound by
constexpr double kVarianceShare = 0.05;  // of a step in what is remembered, once there were many
constexpr double kFirstVariance = 0.25;  // large chunks say little of what small ones cost

}  // namespace

double StepBudget::DecodeNs(int32_t decodes) const {
  return decodes == 0 ? 0 : once_ns_ + decode_ns_ * decodes;
}

double StepBudget::PrefillNs(int32_t first, int32_t num_tokens) const {
  return token_ns_ * num_tokens + pair_ns_ * static_cast<double>(PrefillPairs(first, num_tokens));
}

void StepBudget::Learn(const StepShape& shape, int64_t ns) {
  const bool prefills = shape.prefill_tokens > 0;
  if (ns <= 0 || (!prefills && shape.decodes == 0) || shape.recomputes_answers) return;
  const bool mixed = prefills && shape.decodes > 0;
  if (prefills && !mixed) GrowQuiet();
  // Prefill alone comes in large chunks, whose tokens are cheaper: good enough as a first guess.
  if (prefills && !mixed && mixed_seen_ > 0) return;
  const auto took = static_cast<double>(ns);
  if (mixed) {
    if (shape.prefill_tokens > options_.min_prefill_tokens && shape.bound_ns > 0 &&
        took > shape.bound_ns) {
      ++over_bound_;
    }
    const double predicted = DecodeNs(shape.decodes) + ChunkNs(shape);
    LearnDeviation((took - predicted) / std::max(predicted, kLeastSurpriseNs));
  }
  // Decodes and prefill are learned apart: a step with both could be explained in many ways.
  const bool told_apart = mixed && shape.prefill_ns > 0;
  if (told_apart) LearnDecodes(shape, took - shape.prefill_ns);
  if (!prefills) {
    LearnDecodes(shape, took);
  } else {
    LearnPrefill(shape, told_apart ? shape.prefill_ns : took - DecodeNs(shape.decodes));
  }
  // Prefill that goes apart takes other products.
  if (!options_.prefill_apart) KeepDecodesDearest(shape);
}

void StepBudget::GrowQuiet() {
  const auto most = static_cast<double>(std::max(options_.max_alone_ns, options_.max_quiet_ns));
  alone_ns_ = std::min(2 * alone_ns_, most);
}

/// The part of an error that moves what predicted it. The first steps of a kind are believed whole,
/// later ones less.
double StepBudget::Surprise(double took, double predicted, int64_t* seen) const {
  double error = std::max(0.0, took) - predicted;
  if (*seen > 0) error = std::min(error, kMaxSurprise * std::max(predicted, kLeastSurpriseNs));
  return std::max(kStepSize, 1.0 / static_cast<double>(++*seen)) * error;
}

void StepBudget::LearnDecodes(const StepShape& shape, double took) {
  const double y = kDecodes * shape.decodes;
  const double step = Surprise(took, DecodeNs(shape.decodes), &decodes_seen_) / (1 + y * y);
  once_ns_ = std::max(0.0, once_ns_ + step);
  decode_ns_ = std::max(0.0, decode_ns_ + step * y * kDecodes);
}

void StepBudget::LearnPrefill(const StepShape& shape, double took) {
  const double x = kTokens * shape.prefill_tokens;
  const double y = kPairs * static_cast<double>(shape.prefill_pairs);
  const double z = options_.prefill_apart ? 1.0 : 0.0;
  int64_t& seen = shape.decodes > 0 ? mixed_seen_ : prefills_seen_;
  const double step = Surprise(took, ChunkNs(shape), &seen) / (x * x + y * y + z * z);
  token_ns_ = std::max(0.0, token_ns_ + step * x * kTokens);
  pair_ns_ = std::max(0.0, pair_ns_ + step * y * kPairs);
  apart_ns_ = std::max(0.0, apart_ns_ + step * z);
}

/// Of a step's prefill.
double StepBudget::ChunkNs(const StepShape& shape) const {
  return apart_ns_ + token_ns_ * shape.prefill_tokens +
         pair_ns_ * static_cast<double>(shape.prefill_pairs);
}

/// A decode takes the products that a prefill token takes, and more: the head, its whole context.
/// Without that knowledge a crowd whose every step carries a little prefill could be explained by
/// prefill being dear, which would keep it little for ever.
void StepBudget::KeepDecodesDearest(const StepShape& shape) {
  if (token_ns_ <= decode_ns_) return;
  if (shape.prefill_tokens > 0) {
    const double rows = static_cast<double>(shape.decodes) + shape.prefill_tokens;
    token_ns_ = (decode_ns_ * shape.decodes + token_ns_ * shape.prefill_tokens) / rows;
    decode_ns_ = token_ns_;
  } else {  // such a step says nothing of prefill, and little of what is once and what each
    const double moved = std::min(token_ns_ - decode_ns_, once_ns_ / shape.decodes);
    decode_ns_ += moved;
    once_ns_ -= moved * shape.decodes;
  }
}

void StepBudget::LearnDeviation(double relative_error) {
  const double error = std::clamp(relative_error, -1.0, 1.0);
  if (mixed_seen_ == 0) variance_ = kFirstVariance;
  // The first steps weigh as much as what was assumed: a fresh server's first crowd would wait
  // until steps of 5 % had forgotten it.
  const double share = std::max(kVarianceShare, 1.0 / (static_cast<double>(mixed_seen_) + 2));
  variance_ += share * (error * error - variance_);
}

double StepBudget::Begin(int32_t decodes, int32_t coming) {
  const bool known = prefills_seen_ + mixed_seen_ > 0;
  left_minimum_ = decodes == 0 ? options_.min_alone_tokens : options_.min_prefill_tokens;
  grain_ = decodes > 0 && options_.prefill_apart ? std::max(1, options_.apart_grain) : 1;
  taken_ = 0;
  left_ns_ = std::numeric_limits<double>::infinity();
  if (options_.max_slowdown <= 0) return 0;
  if (decodes == 0) {
    left_ns_ = known ? alone_ns_ : -1;
    return 0;
  }
  if (!known) return 0;
  const double bound_ns = std::max(options_.max_slowdown * DecodeNs(std::max(decodes, coming)),
                                   static_cast<double>(options_.min_step_ns));
  const double variance = mixed_seen_ == 0 ? kFirstVariance : variance_;
  left_ns_ = bound_ns / (1 + kDeviations * std::sqrt(variance)) - DecodeNs(decodes) - apart_ns_;
  return bound_ns;
}

double StepBudget::TokensWithin(int32_t first, double ns) const {
  // The largest n with a*n + b*n^2 <= ns.
  const double a = token_ns_ + pair_ns_ * (first + 0.5), b = pair_ns_ / 2;
  const double left = std::max(0.0, ns);
  const double root = a + std::sqrt(a * a + 4 * b * left);
  return root > 0 ? 2 * left / root : 0;
}

int32_t StepBudget::FitAwaited(int32_t first, int32_t wanted) const {
  const double within = static_cast<double>(options_.max_alone_ns) / 2;
  const bool known = prefills_seen_ + mixed_seen_ > 0;
  if (options_.max_slowdown <= 0 || !known || PrefillNs(first, wanted) <= within) return wanted;
  const auto fit = static_cast<int32_t>(std::min<double>(TokensWithin(first, within), wanted));
  return std::clamp(fit, std::clamp(options_.min_alone_tokens, 1, wanted), wanted);
}

int32_t StepBudget::Fit(int32_t first, int32_t wanted) const {
  if (wanted <= left_minimum_ || PrefillNs(first, wanted) <= left_ns_) return wanted;
  const double n = TokensWithin(first, left_ns_);
  const auto all = static_cast<int32_t>(taken_ + std::min<double>(n, wanted));
  const int32_t nearest = (all + grain_ / 2) / grain_, begun = (taken_ + grain_ - 1) / grain_;
  const int32_t fit = std::max(nearest, begun) * grain_ - taken_;
  return std::clamp(fit, std::clamp(left_minimum_, 0, wanted), wanted);
}

void StepBudget::Take(int32_t first, int32_t num_tokens) { Hold(first, num_tokens); }

StepBudget::Share StepBudget::Hold(int32_t first, int32_t num_tokens) {
  const Share share{num_tokens, PrefillNs(first, num_tokens)};
  left_ns_ -= share.ns;
  left_minimum_ -= share.tokens;
  taken_ += share.tokens;
  return share;
}

void StepBudget::GiveBack(const Share& share) {
  left_ns_ += share.ns;
  left_minimum_ = std::max(left_minimum_, 0) + share.tokens;
  taken_ -= share.tokens;
}

}  // namespace modu::engine
