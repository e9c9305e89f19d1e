// Steps of a long prompt alone that end early: who may be cut, and that no answer changes.
#include <memory>
#include <numeric>
#include <vector>

#include "engine/engine.h"
#include "tests/catch.h"
#include "tests/engine/answers.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

/// An engine whose tokens take a millisecond each.
struct Rig {
  explicit Rig(int depth = 1, bool phased = true, int max_running = 8) {
    spec.groups = {{"full", 16, 400, 0}};
    spec.vocab_size = 90;
    spec.max_model_len = 2'000;
    spec.max_batch_tokens = 1'024;
    spec.max_sequences = 8;
    spec.phased = phased;
    auto owned = std::make_unique<FakeRunner>(spec, depth);
    runner = owned.get();
    runner->keep_launched = true;
    runner->faults.during_step = [this](const ForwardInput& input) {
      clock.now_ns += static_cast<int64_t>(input.token_ids.size()) * 1'000'000;
    };
    EngineOptions options;
    options.max_step_tokens = spec.max_batch_tokens;
    options.max_running = max_running;
    options.prefix_cache = false;
    options.step_budget.min_alone_tokens = 10;
    engine = std::make_unique<Engine>(std::move(owned), options, &clock, &answers);
  }

  Request Submit(int32_t num_prompt, int32_t max_tokens = 3, int32_t prompt_logprobs = -1) {
    Request request;
    request.id = ++last_id;
    request.arrival_ns = clock.now_ns;
    request.prompt_ids.resize(static_cast<size_t>(num_prompt));
    std::iota(request.prompt_ids.begin(), request.prompt_ids.end(), static_cast<int32_t>(last_id));
    for (int32_t& id : request.prompt_ids) id %= spec.vocab_size;
    request.sampling.max_tokens = max_tokens;
    request.sampling.ignore_eos = true;
    request.sampling.prompt_logprobs = prompt_logprobs;
    REQUIRE(engine->Submit(request).ok());
    return request;
  }
  void RunToEnd() {
    while (engine->RunOnce()) REQUIRE(engine->SelfCheck() == "");
    REQUIRE(runner->violations == std::vector<std::string>());
  }
  /// Prompts alone until steps are as long as they become, and known not to depend on positions.
  void BecomeQuiet() {
    for (int i = 0; i < 40; ++i) {
      Submit(i % 2 == 0 ? 900 : 100, 1);
      RunToEnd();
    }
  }
  bool IsRight(const Request& request) {
    return answers.tokens[request.id] == FakeRunner::Answer(spec, request);
  }

  RunnerSpec spec;
  FakeClock clock;
  Answers answers;
  FakeRunner* runner;
  std::unique_ptr<Engine> engine;
  RequestId last_id = 0;
};

const ForwardInput& StepAt(const Rig& rig, size_t index) { return rig.runner->launched.at(index); }

}  // namespace

TEST_CASE("a long step of a prompt alone may be cut to half of a usual one's time") {
  Rig rig;
  rig.BecomeQuiet();
  const size_t before = rig.runner->launched.size();
  const Request request = rig.Submit(900, 1);
  rig.RunToEnd();
  const ForwardInput& first = StepAt(rig, before);
  CHECK(first.token_ids.size() > 270);  // 300 ms
  CHECK(first.least_tokens > 40);       // 50 ms
  CHECK(first.least_tokens < 70);
  CHECK(rig.engine->Stats().steps_cut_short == 0);  // nobody came
  CHECK(rig.IsRight(request));
}

TEST_CASE("a step that was cut short goes on where it ended, also its last one") {
  Rig rig;
  rig.BecomeQuiet();
  rig.runner->faults.ends_early = [](const ForwardInput& input) { return input.least_tokens; };
  const size_t before = rig.runner->launched.size();
  const Request request = rig.Submit(280);  // one step, which would have drawn a token
  rig.RunToEnd();
  CHECK(rig.engine->Stats().steps_cut_short > 1);
  CHECK(rig.IsRight(request));
  int32_t next = 0;
  for (size_t i = before; i < rig.runner->launched.size() && next < 280; ++i) {
    const ForwardInput& step = StepAt(rig, i);
    CHECK(step.positions.front() == next);
    next += step.least_tokens > 0 ? step.least_tokens : static_cast<int32_t>(step.token_ids.size());
  }
  CHECK(next == 280);
}

TEST_CASE("steps that others depend on are not cut") {
  const auto may_be_cut = [](const Rig& rig, size_t from) {
    for (size_t i = from; i < rig.runner->launched.size(); ++i) {
      if (StepAt(rig, i).least_tokens > 0) return true;
    }
    return false;
  };
  for (const int depth : {1, 2}) {
    Rig rig(depth, /*phased=*/false);
    rig.BecomeQuiet();
    size_t from = rig.runner->launched.size();
    rig.Submit(900, 1);
    rig.RunToEnd();
    CHECK(may_be_cut(rig, from) == (depth == 1));  // else the next step is launched already

    from = rig.runner->launched.size();
    rig.Submit(900, 1, /*prompt_logprobs=*/0);  // rows of which were asked for
    rig.RunToEnd();
    CHECK_FALSE(may_be_cut(rig, from));

    rig.Submit(5, 60);
    for (int i = 0; i < 4; ++i) rig.engine->RunOnce();
    from = rig.runner->launched.size();
    rig.Submit(900, 1);  // beside a stream
    for (int i = 0; i < 20; ++i) rig.engine->RunOnce();
    CHECK_FALSE(may_be_cut(rig, from));
    rig.RunToEnd();
  }
}

TEST_CASE("who arrives during a step is seen by it, and by no later one") {
  Rig rig;
  rig.BecomeQuiet();
  REQUIRE(rig.runner->arrived != nullptr);
  const auto arrived = [&] { return rig.runner->arrived->load(); };
  int step = 0;
  rig.runner->faults.during_step = [&](const ForwardInput& input) {
    rig.clock.now_ns += static_cast<int64_t>(input.token_ids.size()) * 1'000'000;
    CHECK_FALSE(arrived());
    if (++step == 1) {
      CHECK(input.least_tokens > 0);
      rig.Submit(5, 1);
      CHECK(arrived());
    }
  };
  rig.runner->faults.ends_early = [&](const ForwardInput& input) {
    return arrived() ? input.least_tokens : static_cast<int32_t>(input.token_ids.size());
  };
  rig.Submit(900, 1);
  rig.RunToEnd();
  CHECK(rig.engine->Stats().steps_cut_short == 1);
  CHECK(rig.answers.reasons.size() == static_cast<size_t>(rig.last_id));
}

TEST_CASE("a step is not cut for who could not come in") {
  Rig rig(1, true, /*max_running=*/1);
  rig.BecomeQuiet();
  const size_t from = rig.runner->launched.size();
  rig.Submit(900, 1);
  rig.RunToEnd();
  for (size_t i = from; i < rig.runner->launched.size(); ++i) {
    CHECK(StepAt(rig, i).least_tokens == 0);
  }
}

TEST_CASE("a runner that ends a step early without leave fails it") {
  class Eager final : public ModelRunner {
   public:
    explicit Eager(const RunnerSpec& spec) : spec_(spec) {}
    const RunnerSpec& spec() const override { return spec_; }
    int pipeline_depth() const override { return 1; }
    SamplerSlot StartSequence(const SamplingParams&, const std::vector<int32_t>&,
                              int32_t) override {
      return 0;
    }
    void EndSequence(SamplerSlot) override {}
    StepHandle Launch(ForwardInput input) override { return {input.step}; }
    StepOutput Wait(StepHandle) override {
      StepOutput output;
      output.num_tokens = 1;
      return output;
    }

   private:
    RunnerSpec spec_;
  };
  Rig rig;
  Answers answers;
  Engine engine(std::make_unique<Eager>(rig.spec), {}, &rig.clock, &answers);
  Request request;
  request.id = 1;
  request.prompt_ids = {1, 2, 3};
  request.sampling.max_tokens = 1;
  REQUIRE(engine.Submit(request).ok());
  while (engine.RunOnce()) {
  }
  CHECK(answers.reasons[1] == FinishReason::kFailed);
}

}  // namespace modu::engine
