#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/sampling/logit_scan.h"
#include "engine/sampling/nucleus.h"
#include "engine/sampling/philox.h"
#include "kernels/check.h"

namespace modu::engine {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5f;

struct SeenToken {
  int32_t id;
  int32_t output_count;
};

bool Penalises(const SamplingParams& p) {
  return p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f;
}

/// The logit that has `weight`, or one a hair lower: filters go by weights, selection by logits.
float LogitOf(double weight, float max, float scale) {
  return static_cast<float>(max + std::log(std::max(weight * 0.99, 1e-37)) / scale);
}

}  // namespace

struct Sampler::Slot {
  bool in_use = false;
  SamplingParams params;
  std::vector<int32_t> stop_ids;
  // Penalties: distinct tokens seen, and where each lies in the list (-1: nowhere). Empty unless
  // there are penalties.
  std::vector<SeenToken> seen;
  std::vector<int32_t> seen_at;
  // Scratch of a draw, kept so that a steady state allocates nothing.
  std::vector<Candidate> candidates, work;
  std::vector<double> block_sums;
  std::vector<std::pair<int32_t, float>> edits;  // logits as they were

  void Remember(int32_t id, bool output) {
    if (seen_at.empty() || id < 0 || static_cast<size_t>(id) >= seen_at.size()) return;
    if (seen_at[id] < 0) {
      if (!output && params.repetition_penalty == 1.0f)
        return;  // prompt tokens matter to that penalty only
      seen_at[id] = static_cast<int32_t>(seen.size());
      seen.push_back({id, 0});
    }
    if (output) ++seen[seen_at[id]].output_count;
  }

  void Edit(float* logits, int32_t id, float value) {
    edits.emplace_back(id, logits[id]);
    logits[id] = value;
  }

  void ApplyEdits(float* logits, bool mask_stop);
  void UndoEdits(float* logits) {
    while (!edits.empty()) {  // backwards: an id may have been edited twice
      logits[edits.back().first] = edits.back().second;
      edits.pop_back();
    }
  }

  int32_t Draw(const float* logits, int32_t n, float max, double uniform);
  int32_t DrawUnfiltered(const float* logits, int32_t n, float max, float scale, double uniform);
  int32_t DrawCandidate(double uniform) const;
  /// The candidates' logits become weights; those below min_p go. Returns their sum.
  double Weigh(float max, float scale);
  /// Candidates and their weights that hold the nucleus. Returns its mass.
  double SelectForNucleus(const float* logits, int32_t n, float max, float scale);
};

void Sampler::Slot::ApplyEdits(float* logits, bool mask_stop) {
  // Finite stays finite: a penalty of 1e30 must not make an inf that poisons the softmax.
  const auto clamp = [](float x) { return std::clamp(x, -FLT_MAX, FLT_MAX); };
  for (const auto& [id, bias] : params.logit_bias) {
    if (logits[id] != kMinusInf) Edit(logits, id, clamp(logits[id] + bias));
  }
  const float repetition = params.repetition_penalty;
  for (const SeenToken& token : seen) {
    float x = logits[token.id];
    if (x == kMinusInf) continue;
    if (repetition != 1.0f) x = clamp(x > 0 ? x / repetition : x * repetition);
    if (token.output_count > 0) {
      x -= params.frequency_penalty * static_cast<float>(token.output_count) +
           params.presence_penalty;
    }
    Edit(logits, token.id, clamp(x));
  }
  if (mask_stop) {
    for (int32_t id : stop_ids) Edit(logits, id, kMinusInf);
  }
}

int32_t Sampler::Slot::DrawUnfiltered(const float* logits, int32_t n, float max, float scale,
                                      double uniform) {
  const double total = SumExp(logits, n, max, scale, &block_sums);
  const double target = uniform * total;
  double below = 0;
  size_t block = 0;
  while (block + 1 < block_sums.size() && below + block_sums[block] <= target)
    below += block_sums[block++];
  while (block_sums[block] <= 0) --block;  // rounding at the very end: the last block that has mass
  const int32_t begin = static_cast<int32_t>(block) * kScanBlock;
  int32_t last = -1;
  for (int32_t id = begin; id < std::min(n, begin + kScanBlock); ++id) {
    const float weight = ExpWeight(logits[id], max, scale);
    if (weight <= 0) continue;
    last = id;
    below += weight;
    if (below > target) break;
  }
  return last;
}

int32_t Sampler::Slot::DrawCandidate(double uniform) const {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.value;
  const double target = uniform * total;
  double below = 0;
  int32_t last = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    if (candidate.value <= 0) continue;
    last = candidate.id;
    below += candidate.value;
    if (below > target) break;
  }
  return last;
}

double Sampler::Slot::Weigh(float max, float scale) {
  double sum = 0;
  for (Candidate& candidate : candidates) {
    candidate.value = ExpWeight(candidate.value, max, scale);
    if (candidate.value >= params.min_p) sum += candidate.value;
  }
  if (params.min_p > 0) {
    std::erase_if(candidates, [&](const Candidate& c) { return c.value < params.min_p; });
  }
  return sum;
}

double Sampler::Slot::SelectForNucleus(const float* logits, int32_t n, float max, float scale) {
  // Candidates that have the mass hold the nucleus. Tokens below (1 - p) * total / n sum to less
  // than (1 - p) * total, so all others do; but mostly a few dozen tokens have it.
  constexpr double kFirstPart = 64, kNextPart = 8, kRounding = 1e-6;
  const double total = SumExp(logits, n, max, scale, nullptr);
  const double mass = params.top_p * total;
  for (double part = kFirstPart;; part *= kNextPart) {
    const double lowest = (total - mass) / std::min<double>(part, n);
    SelectAtLeast(logits, n, LogitOf(lowest, max, scale), &candidates);
    if (Weigh(max, scale) >= mass * (1 + kRounding) || part >= n) return mass;
  }
}

int32_t Sampler::Slot::Draw(const float* logits, int32_t n, float max, double uniform) {
  const float scale = 1.0f / params.temperature;
  const bool top_k = params.top_k > 0 && params.top_k < n;
  const bool top_p = params.top_p < 1.0f;
  const bool min_p = params.min_p > 0.0f;
  if (!top_k && !top_p && !min_p) return DrawUnfiltered(logits, n, max, scale, uniform);

  double mass = 0;
  if (top_k || min_p) {
    if (top_k) {
      SelectTopK(logits, n, params.top_k, &candidates, &work);
    } else {
      SelectAtLeast(logits, n, LogitOf(params.min_p, max, scale), &candidates);
    }
    mass = params.top_p * Weigh(max, scale);
  } else {
    mass = SelectForNucleus(logits, n, max, scale);
  }
  if (top_p) KeepNucleus(mass, &candidates, &work);
  return DrawCandidate(uniform);
}

Sampler::Sampler(int32_t vocab_size, std::vector<int32_t> eos_ids)
    : vocab_size_(vocab_size), eos_ids_(std::move(eos_ids)) {
  MODU_CHECK(vocab_size > 0);
}

Sampler::~Sampler() = default;

SamplerSlot Sampler::StartSequence(const SamplingParams& params,
                                   const std::vector<int32_t>& history, int32_t num_output) {
  MODU_CHECK(num_output >= 0 && static_cast<size_t>(num_output) <= history.size());
  SamplerSlot index;
  if (free_slots_.empty()) {
    index = static_cast<SamplerSlot>(slots_.size());
    slots_.push_back(std::make_unique<Slot>());
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = *slots_[index];
  slot.in_use = true;
  slot.params = params;
  const auto outside = [this](int32_t id) { return id < 0 || id >= vocab_size_; };
  std::erase_if(slot.params.logit_bias, [&](const auto& bias) { return outside(bias.first); });
  slot.stop_ids = eos_ids_;
  slot.stop_ids.insert(slot.stop_ids.end(), params.stop_token_ids.begin(),
                       params.stop_token_ids.end());
  std::erase_if(slot.stop_ids, outside);
  slot.seen.clear();
  slot.seen_at.clear();
  if (Penalises(params)) {
    slot.seen_at.assign(vocab_size_, -1);
    const size_t num_prompt = history.size() - num_output;
    for (size_t i = 0; i < history.size(); ++i) slot.Remember(history[i], i >= num_prompt);
  }
  return index;
}

void Sampler::EndSequence(SamplerSlot index) {
  MODU_CHECK(index >= 0 && static_cast<size_t>(index) < slots_.size() && slots_[index]->in_use);
  slots_[index]->in_use = false;
  free_slots_.push_back(index);
}

SampledRow Sampler::Sample(const modu::engine::SampleRow& row, float* logits) {
  SampledRow out;
  const RowMax raw = FindMax(logits, vocab_size_);
  if (raw.bad || raw.argmax < 0) {
    out.numeric_error = true;
    return out;
  }
  float log_sum = 0;
  if (row.top_logprobs >= 0 || row.target_id >= 0) {
    log_sum =
        raw.max + static_cast<float>(std::log(SumExp(logits, vocab_size_, raw.max, 1.0f, nullptr)));
    if (row.top_logprobs > 0) {
      std::vector<Candidate> best, work;
      SelectTopK(logits, vocab_size_, row.top_logprobs, &best, &work);
      std::sort(best.begin(), best.end(), Before);
      out.top_logprobs.reserve(best.size());
      for (const Candidate& token : best)
        out.top_logprobs.push_back({token.id, token.value - log_sum});
    }
  }
  if (row.target_id >= 0) {
    MODU_CHECK(row.target_id < vocab_size_);
    out.token_id = row.target_id;
    out.logprob = logits[row.target_id] - log_sum;
    return out;
  }

  MODU_CHECK(row.slot >= 0 && static_cast<size_t>(row.slot) < slots_.size() &&
             slots_[row.slot]->in_use);
  Slot& slot = *slots_[row.slot];
  slot.ApplyEdits(logits, row.mask_stop);
  const RowMax edited = slot.edits.empty() ? raw : FindMax(logits, vocab_size_);
  if (edited.argmax < 0) {  // all that is left is masked
    slot.UndoEdits(logits);
    out.numeric_error = true;
    return out;
  }
  out.token_id = edited.argmax;
  if (slot.params.temperature >= kGreedyBelow) {
    const double uniform = UniformAt(slot.params.seed, static_cast<uint32_t>(row.position));
    out.token_id = slot.Draw(logits, vocab_size_, edited.max, uniform);
  }
  slot.UndoEdits(logits);
  if (row.top_logprobs >= 0) out.logprob = logits[out.token_id] - log_sum;
  slot.Remember(out.token_id, /*output=*/true);
  return out;
}

bool Sampler::IsArgmax(const SampleRow& row) const {
  if (row.target_id >= 0 || row.top_logprobs >= 0 || row.mask_stop) return false;
  MODU_CHECK(row.slot >= 0 && static_cast<size_t>(row.slot) < slots_.size());
  const SamplingParams& params = slots_[row.slot]->params;
  return params.temperature < kGreedyBelow && params.logit_bias.empty() && !Penalises(params);
}

int32_t Sampler::vocab_size() const { return vocab_size_; }
int32_t Sampler::num_slots_in_use() const {
  return static_cast<int32_t>(slots_.size() - free_slots_.size());
}

}  // namespace modu::engine
