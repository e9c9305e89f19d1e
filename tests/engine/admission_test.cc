// For whom a step's bound makes room: what the scheduler counts of those that wait.
#include <memory>
#include <vector>

#include "engine/scheduler/scheduler.h"
#include "engine/scheduler/step_packet.h"
#include "tests/catch.h"

namespace modu::engine {
namespace {

constexpr int32_t kBlock = 16;
constexpr double kStep = 4e6, kDecode = 0.5e6, kToken = 0.4e6;  // ns

SchedulerOptions Options() {
  SchedulerOptions options;
  options.max_step_tokens = 1'024;
  options.step_budget.min_step_ns = 0;
  return options;
}

/// A scheduler that knows its machine, and its sequences, each step of which succeeds at once.
class House {
 public:
  House(int32_t num_blocks, bool prefix_cache)
      : kv_({{num_blocks, 0}}, kBlock, {.prefix_cache = prefix_cache}),
        scheduler_(Options(), &kv_) {
    for (int i = 0; i < 200; ++i) {
      const int32_t decodes = 1 + i % 40, tokens = i % 2 == 0 ? 0 : 64;
      Learn({decodes, tokens, 0});
    }
  }
  ~House() {
    for (const auto& sequence : sequences_) scheduler_.Remove(sequence.get());
  }

  /// Prompts that begin alike and end each in a block of its own.
  void Add(int count, int32_t prompt, int32_t max_tokens) {
    for (int i = 0; i < count; ++i) {
      auto sequence = std::make_unique<Sequence>();
      sequence->order = ++last_order_;
      sequence->tokens.assign(static_cast<size_t>(prompt), 7);
      for (int32_t p = prompt - kBlock; p < prompt; ++p) {
        sequence->tokens[static_cast<size_t>(p)] = static_cast<int32_t>(100 + last_order_);
      }
      sequence->num_prompt = prompt;
      sequence->request.sampling.max_tokens = max_tokens;
      sequence->kv = kv_.NewSequence(CacheScope());
      scheduler_.Add(sequence.get());
      sequences_.push_back(std::move(sequence));
    }
  }

  StepPlan Step() {
    StepPlan plan;
    scheduler_.Plan(++step_, &plan);
    ForwardInput input;
    std::vector<LaunchedChunk> launched;
    BuildStepPacket(step_, plan, kBlock, 1, &input, &launched);
    for (const LaunchedChunk& chunk : launched) {
      Sequence& sequence = *chunk.sequence;
      --sequence.num_in_flight;
      sequence.num_computed = chunk.end;
      if (chunk.samples) sequence.tokens.push_back(9);
      kv_.Settle(&sequence.kv, sequence.tokens, sequence.num_computed);
    }
    return plan;
  }
  /// What such a step takes on this machine.
  void Learn(const StepShape& shape) {
    scheduler_.Learn(shape, static_cast<int64_t>(kStep + kDecode * shape.decodes +
                                                 kToken * shape.prefill_tokens));
  }
  /// Until that many decode in a step that carries nothing else.
  void StepUntilDecode(int32_t decodes) {
    for (int i = 0; i < 1'000; ++i) {
      const StepPlan plan = Step();
      if (plan.shape.decodes == decodes && plan.shape.prefill_tokens == 0) return;
    }
    FAIL("they never decode together");
  }
  /// How many decodes the next step's bound was made for.
  double Coming() {
    const StepPlan plan = Step();
    const double slowdown = Options().step_budget.max_slowdown;
    return (plan.shape.bound_ns / slowdown - kStep) / kDecode;
  }

 private:
  KvCacheManager kv_;
  Scheduler scheduler_;
  uint64_t step_ = 0, last_order_ = 0;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

}  // namespace

TEST_CASE("who waits counts as far as there are places") {
  House house(10'000, false);
  house.Add(8, 32, 500);
  house.StepUntilDecode(8);
  CHECK(house.Coming() == Approx(8).margin(0.5));
  house.Add(100, 32, 500);
  CHECK(house.Coming() == Approx(64).margin(0.5));
}

TEST_CASE("KV that those who run will still need is nobody's place") {
  // Of a usual answer's 128 tokens each will hold 10 blocks: 8 sequences, and a few blocks more.
  House house(8 * 10 + 5, false);
  house.Add(8, 32, 500);
  house.StepUntilDecode(8);
  house.Add(40, 32, 500);
  CHECK(house.Coming() == Approx(8).margin(0.5));
}

TEST_CASE("what the prefix cache has spared others makes room for more") {
  const auto coming = [](bool prefix_cache) {
    House house(10'000, prefix_cache);
    house.Add(1, 800, 400);
    house.StepUntilDecode(1);
    house.Add(7, 800, 400);
    house.StepUntilDecode(8);
    house.Add(40, 800, 20);
    return house.Coming();
  };
  const double without = coming(false);
  CHECK(without < 10);
  CHECK(coming(true) > without + 3);
}

TEST_CASE("a prompt that is alone is read in longer steps until another comes") {
  House house(10'000, false);
  const auto prefill = [&] {
    const StepPlan plan = house.Step();
    house.Learn(plan.shape);
    return plan.shape.prefill_tokens;
  };
  house.Add(1, 9'000, 10);
  const int32_t usual = prefill();
  CHECK(usual < 300);  // 100 ms of 0.4 a token
  for (int i = 0; i < 5; ++i) prefill();
  CHECK(prefill() > 700);
  house.Add(1, 2'000, 10);
  CHECK(prefill() == usual);
  CHECK(prefill() > usual);  // nobody else
}

}  // namespace modu::engine
