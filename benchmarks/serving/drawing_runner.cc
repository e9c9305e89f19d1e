#include "benchmarks/serving/drawing_runner.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "kernels/check.h"

namespace modu::benchmark {

using engine::SampledRow;
using engine::SamplerSlot;

DrawingRunner::DrawingRunner(engine::RunnerSpec spec, std::vector<int32_t> drawable,
                             std::chrono::microseconds step_time)
    : spec_(std::move(spec)), drawable_(std::move(drawable)), step_time_(step_time) {
  MODU_CHECK(!drawable_.empty());
}

SamplerSlot DrawingRunner::StartSequence(const engine::SamplingParams& params,
                                         const std::vector<int32_t>&, int32_t) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<SamplerSlot>(seeds_.size()));
    seeds_.push_back(0);
  }
  const SamplerSlot slot = free_slots_.back();
  free_slots_.pop_back();
  seeds_[static_cast<size_t>(slot)] = params.seed;
  return slot;
}

void DrawingRunner::EndSequence(SamplerSlot slot) { free_slots_.push_back(slot); }

int32_t DrawingRunner::Draw(uint64_t seed, int32_t position) const {
  // SplitMix64's finalizer (Steele, Lea, Flood 2014).
  uint64_t hash = seed + static_cast<uint64_t>(position) * 0x9e3779b97f4a7c15u;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return drawable_[(hash ^ (hash >> 31)) % drawable_.size()];
}

engine::StepHandle DrawingRunner::Launch(engine::ForwardInput input) {
  output_.rows.reserve(input.sample_rows.size());
  for (const engine::SampleRow& row : input.sample_rows) {
    SampledRow& drawn = output_.rows.emplace_back();
    drawn.logprob = -1.0f;
    if (row.target_id >= 0) {
      drawn.token_id = row.target_id;
      continue;
    }
    if (row.after_draft) {
      const SampledRow& before = *(&drawn - 1);
      if (before.token_id != input.token_ids[static_cast<size_t>(row.token_row)]) continue;
    }
    drawn.token_id = Draw(seeds_[static_cast<size_t>(row.slot)], row.position);
    for (int32_t k = 0; k < row.top_logprobs; ++k)
      drawn.top_logprobs.push_back({drawable_[static_cast<size_t>(k) % drawable_.size()], -2.0f});
  }
  output_.input = std::move(input);
  return {output_.input.step};
}

engine::StepOutput DrawingRunner::Wait(engine::StepHandle) {
  PassStepTime();
  return std::exchange(output_, {});
}

/// From the end of the step before, if that was just now: what the scheduler took counts.
void DrawingRunner::PassStepTime() {
  if (step_time_.count() == 0) return;
  const auto now = std::chrono::steady_clock::now();
  const auto due = step_began_ + step_time_;
  if (due > now) std::this_thread::sleep_until(due);
  step_began_ = std::max(due, now);
}

}  // namespace modu::benchmark
