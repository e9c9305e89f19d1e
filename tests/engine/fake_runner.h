// A model whose next token is a hash of the tokens it reads back from its own emulated paged KV:
// whatever goes wrong with blocks, slots, tables, windows or the order of steps shows as a wrong
// token. Steps are computed at Wait, so the tokens of step N do not exist when N + 1 is launched at
// depth 2. It also keeps each slot's history, as a real sampler does, and compares it with what the
// KV says. Faults are injected by the owner.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/clock.h"
#include "engine/runner/model_runner.h"

namespace modu::engine {

class FakeClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns; }
  int64_t now_ns = 1'000'000'000;
};

struct FakeFaults {
  std::function<bool(const ForwardInput&)> step_fails;
  std::function<bool(const ForwardInput&)> launch_throws;
  std::function<bool(const ForwardInput&)> wait_throws;
  std::function<bool(const SampleRow&)> row_is_nan;
  std::function<bool()> start_throws;
  std::function<void(const ForwardInput&)> during_step;  // e.g. moves a fake clock
  /// Of a step that may end early (least_tokens) how many tokens are computed; all of them or more:
  /// it does not.
  std::function<int32_t(const ForwardInput&)> ends_early;
};

class FakeRunner final : public ModelRunner {
 public:
  /// A seed with this bit makes answers that mostly repeat themselves, as quoted text does.
  static constexpr uint64_t kRepetitive = uint64_t{1} << 40;

  FakeRunner(RunnerSpec spec, int depth);

  const RunnerSpec& spec() const override { return spec_; }
  int pipeline_depth() const override { return depth_; }
  SamplerSlot StartSequence(const SamplingParams& params, const std::vector<int32_t>& history,
                            int32_t num_output) override;
  void EndSequence(SamplerSlot slot) override;
  StepHandle Launch(ForwardInput input) override;
  StepOutput Wait(StepHandle handle) override;
  void WatchArrivals(const std::atomic<bool>* flag) override { arrived = flag; }

  FakeFaults faults;
  const std::atomic<bool>* arrived = nullptr;
  std::vector<std::string> violations;  // of the contract, by the engine
  std::vector<ForwardInput> launched;   // kept if keep_launched
  bool keep_launched = false;
  uint64_t last_launched = 0, last_waited = 0;
  int64_t tokens_computed = 0;
  size_t slots_in_use() const { return slots_.size(); }

  /// What the model must answer to `request`, computed from its tokens alone, without any KV.
  static std::vector<int32_t> Answer(const RunnerSpec& spec, const Request& request);
  /// The log probability it reports for `target` after `tokens`.
  static float LogprobOf(const RunnerSpec& spec, const std::vector<int32_t>& tokens,
                         int32_t target);

 private:
  struct Slot {
    SamplingParams params;
    std::vector<int32_t> history;
    int32_t num_output = 0;
    bool sick = false;  // a row of it was not finite: what follows is thrown away
  };
  void Violate(const std::string& what);
  /// Tokens from `computed` on are garbage.
  void WriteKv(ForwardInput& input, int32_t computed);
  /// Tokens a row sees in one group, oldest first.
  std::vector<int32_t> ReadKv(const ForwardInput& input, size_t group, int32_t sequence,
                              int32_t position);
  SampledRow Draw(const ForwardInput& input, const SampleRow& row);
  void CheckShape(const ForwardInput& input);

  const RunnerSpec spec_;
  const int depth_;
  std::map<SamplerSlot, Slot> slots_;
  SamplerSlot next_slot_ = 0;
  std::vector<std::vector<int32_t>> kv_;  // [group][slot]: token id
  std::deque<ForwardInput> pending_;
  std::vector<SampledRow> previous_rows_;
};

}  // namespace modu::engine
