// A packet written over an earlier one, against the same one written anew.
#include "engine/scheduler/step_packet.h"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "tests/catch.h"

namespace modu::engine {
namespace {

constexpr int32_t kBlock = 4;

/// Sequences that grow, fall behind their window, are preempted, end, and come in any order.
class Running {
 public:
  explicit Running(unsigned seed)
      : dice_(seed),
        kv_({{2'000, 0}, {2'000, 9}}, kBlock, {.prefix_cache = false, .max_unsettled_tokens = 64}) {
    for (int i = 0; i < 6; ++i) sequences_.push_back(New());
  }
  ~Running() {
    for (const auto& sequence : sequences_) kv_.Release(&sequence->kv);
  }

  StepPlan Plan() {
    StepPlan plan;
    for (auto& sequence : sequences_) {
      if (Dice(0, 30) == 0) {
        kv_.Release(&sequence->kv);
        sequence = New();
      } else if (Dice(0, 20) == 0) {  // preempted, and back
        kv_.Release(&sequence->kv);
        sequence->num_scheduled = 0;
        ++sequence->epoch;
      }
      if (Dice(0, 4) == 0) continue;  // not in this step
      const int32_t tokens = Dice(1, Dice(0, 10) == 0 ? 60 : 3);
      kv_.Settle(&sequence->kv, sequence->tokens, sequence->num_scheduled);
      REQUIRE(kv_.Grow(&sequence->kv, sequence->num_scheduled + tokens));
      plan.chunks.push_back(
          {.sequence = sequence.get(), .first = sequence->num_scheduled, .num_tokens = tokens});
      sequence->num_scheduled += tokens;
      plan.num_tokens += tokens;
    }
    if (Dice(0, 10) == 0) std::ranges::shuffle(plan.chunks, dice_);
    return plan;
  }

 private:
  int32_t Dice(int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(dice_);
  }
  std::unique_ptr<Sequence> New() {
    auto sequence = std::make_unique<Sequence>();
    sequence->order = ++last_order_;
    sequence->state = SequenceState::kRunning;
    sequence->tokens.assign(20'000, 7);
    sequence->num_prompt = Dice(0, 1) == 0 ? 20'000 : Dice(1, 40);
    sequence->kv = kv_.NewSequence(CacheScope());
    return sequence;
  }

  std::mt19937 dice_;
  KvCacheManager kv_;
  uint64_t last_order_ = 0;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

/// The blocks of row s, without the zeros behind them.
std::vector<int32_t> Blocks(const GroupInput& group, size_t s) {
  const auto begin = group.block_table.begin() + static_cast<int64_t>(s) * group.block_table_stride;
  std::vector<int32_t> blocks(begin, begin + group.block_table_stride);
  while (!blocks.empty() && blocks.back() == 0) blocks.pop_back();
  return blocks;
}

}  // namespace

TEST_CASE("a packet that is given back and filled again is as one that is filled anew") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Running running(seed);
    ForwardInput again[2];  // two in flight
    for (uint64_t step = 1; step < 300; ++step) {
      const StepPlan plan = running.Plan();
      std::vector<LaunchedChunk> launched;
      ForwardInput anew;
      ForwardInput& used = again[step % 2];
      BuildStepPacket(step, plan, kBlock, 2, &anew, &launched);
      BuildStepPacket(step, plan, kBlock, 2, &used, &launched);
      REQUIRE(used.step == anew.step);
      REQUIRE(used.token_ids == anew.token_ids);
      REQUIRE(used.positions == anew.positions);
      REQUIRE(used.cu_seqlens == anew.cu_seqlens);
      REQUIRE(used.seq_lens == anew.seq_lens);
      REQUIRE(used.num_generated_seqs == anew.num_generated_seqs);
      for (size_t s = 0; s < launched.size(); ++s) {  // those of generated tokens come first
        const int32_t first = anew.positions[static_cast<size_t>(anew.cu_seqlens[s])];
        const bool generated = first >= launched[s].sequence->num_prompt;
        REQUIRE(generated == (static_cast<int32_t>(s) < anew.num_generated_seqs));
      }
      for (size_t g = 0; g < 2; ++g) {
        const GroupInput& group = used.groups[g];
        REQUIRE(group.slot_mapping == anew.groups[g].slot_mapping);
        REQUIRE(group.block_table.size() ==
                plan.chunks.size() * static_cast<size_t>(group.block_table_stride));
        for (size_t s = 0; s < plan.chunks.size(); ++s) {
          REQUIRE(Blocks(group, s) == Blocks(anew.groups[g], s));
        }
      }
    }
  }
}

TEST_CASE("a table that one long sequence made wide becomes narrow again") {
  KvCacheManager kv({{2'000, 0}}, kBlock, {.prefix_cache = false});
  Sequence long_one, short_one;
  for (Sequence* sequence : {&long_one, &short_one}) {
    sequence->state = SequenceState::kRunning;
    sequence->order = sequence == &long_one ? 1 : 2;
    sequence->tokens.assign(6'000, 7);
    sequence->num_prompt = 6'000;
    sequence->kv = kv.NewSequence(CacheScope());
  }
  REQUIRE(kv.Grow(&long_one.kv, 4'000));
  REQUIRE(kv.Grow(&short_one.kv, 8));
  StepPlan plan;
  plan.chunks = {{.sequence = &long_one, .num_tokens = 4'000},
                 {.sequence = &short_one, .num_tokens = 8}};
  ForwardInput input;
  std::vector<LaunchedChunk> launched;
  BuildStepPacket(1, plan, kBlock, 1, &input, &launched);
  CHECK(input.groups[0].block_table_stride >= 1'000);
  plan.chunks = {{.sequence = &short_one, .num_tokens = 8}};
  BuildStepPacket(2, plan, kBlock, 1, &input, &launched);
  CHECK(input.groups[0].block_table_stride < 100);
  CHECK(input.groups[0].block_table.capacity() < 200);
  CHECK(Blocks(input.groups[0], 0).size() == 2);
  for (Sequence* sequence : {&long_one, &short_one}) kv.Release(&sequence->kv);
}

}  // namespace modu::engine
