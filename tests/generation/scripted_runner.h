// A model that says what its prompt tells it: bytes after the last ':' of the prompt, then EOS.
// Steps can be held, and a prompt that starts with '!' gives logits that are not finite.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/runner/model_runner.h"
#include "tests/api/fake_model.h"

namespace modu::testing {

/// Holds the engine thread in Wait until steps are let through.
class StepGate {
 public:
  void Hold() { Allow(0); }
  /// Lets `steps` more through and then holds.
  void Allow(int64_t steps) {
    std::lock_guard lock(mu_);
    left_ = steps;
    changed_.notify_all();
  }
  void Release() { Allow(INT64_MAX); }
  void Pass() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return left_ > 0; });
    if (left_ != INT64_MAX) --left_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int64_t left_ = INT64_MAX;
};

class ScriptedRunner final : public engine::ModelRunner {
 public:
  ScriptedRunner(StepGate* gate, int depth, int32_t num_blocks = 256) : gate_(gate), depth_(depth) {
    spec_.groups = {engine::CacheGroupSpec{"full", 16, num_blocks, 0}};
    spec_.vocab_size = ByteTokenizer::kVocab;
    spec_.max_model_len = 1024;
    spec_.max_batch_tokens = 4096;
    spec_.max_sequences = 64;
    spec_.eos_ids = {ByteTokenizer::kEos};
  }
  const engine::RunnerSpec& spec() const override { return spec_; }
  int pipeline_depth() const override { return depth_; }

  engine::SamplerSlot StartSequence(const engine::SamplingParams& params,
                                    const std::vector<int32_t>& history,
                                    int32_t num_output) override {
    std::string prompt;
    for (size_t i = 0; i + static_cast<size_t>(num_output) < history.size(); ++i) {
      // Control tokens stand in for nothing here.
      if (history[i] < 256) prompt += static_cast<char>(history[i]);
    }
    Slot slot;
    const size_t colon = prompt.rfind(':');
    if (colon != std::string::npos) slot.script = prompt.substr(colon + 1);
    slot.sick = !prompt.empty() && prompt[0] == '!';
    slots_[next_] = std::move(slot);
    return next_++;
  }
  void EndSequence(engine::SamplerSlot slot) override { slots_.erase(slot); }

  engine::StepHandle Launch(engine::ForwardInput input) override {
    const uint64_t step = input.step;
    engine::StepOutput output;
    for (const engine::SampleRow& row : input.sample_rows) {
      engine::SampledRow drawn;
      drawn.logprob = -0.5f;
      for (int32_t k = 0; k < row.top_logprobs; ++k) {
        drawn.top_logprobs.push_back(
            {static_cast<int32_t>('a' + k), -0.5f - static_cast<float>(k)});
      }
      if (row.target_id >= 0) {
        drawn.token_id = row.target_id;
        drawn.logprob = -static_cast<float>(row.target_id) / 16;
      } else {
        const Slot& slot = slots_.at(row.slot);
        const auto at = static_cast<size_t>(row.position);
        drawn.token_id = at < slot.script.size() ? static_cast<unsigned char>(slot.script[at])
                                                 : ByteTokenizer::kEos;
        if (drawn.token_id == ByteTokenizer::kEos && row.mask_stop) drawn.token_id = '.';
        drawn.numeric_error = slot.sick;
      }
      output.rows.push_back(std::move(drawn));
    }
    outputs_.push_back(std::move(output));
    return {step};
  }
  engine::StepOutput Wait(engine::StepHandle) override {
    gate_->Pass();
    engine::StepOutput output = std::move(outputs_.front());
    outputs_.pop_front();
    return output;
  }

 private:
  struct Slot {
    std::string script;
    bool sick = false;
  };
  StepGate* const gate_;
  const int depth_;
  engine::RunnerSpec spec_;
  std::map<engine::SamplerSlot, Slot> slots_;
  engine::SamplerSlot next_ = 0;
  std::deque<engine::StepOutput> outputs_;
};

}  // namespace modu::testing
