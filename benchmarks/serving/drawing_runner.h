// A model without arithmetic: each row draws a token by a hash of its request's seed and its
// position. What a server on it costs is doors, text threads and scheduler alone. A step takes no
// less than the time it is given, as a model's would, or none. Engine thread only.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/runner/model_runner.h"

namespace modu::benchmark {

class DrawingRunner final : public engine::ModelRunner {
 public:
  /// `drawable`: the ids it draws from, at least one.
  DrawingRunner(engine::RunnerSpec spec, std::vector<int32_t> drawable,
                std::chrono::microseconds step_time);

  const engine::RunnerSpec& spec() const override { return spec_; }
  int pipeline_depth() const override { return 1; }
  engine::SamplerSlot StartSequence(const engine::SamplingParams& params,
                                    const std::vector<int32_t>& history,
                                    int32_t num_output) override;
  void EndSequence(engine::SamplerSlot slot) override;
  engine::StepHandle Launch(engine::ForwardInput input) override;
  engine::StepOutput Wait(engine::StepHandle handle) override;

 private:
  int32_t Draw(uint64_t seed, int32_t position) const;
  void PassStepTime();

  const engine::RunnerSpec spec_;
  const std::vector<int32_t> drawable_;
  const std::chrono::microseconds step_time_;
  std::chrono::steady_clock::time_point step_began_;
  std::vector<uint64_t> seeds_;  // by slot
  std::vector<engine::SamplerSlot> free_slots_;
  engine::StepOutput output_;  // of the step in flight
};

}  // namespace modu::benchmark
