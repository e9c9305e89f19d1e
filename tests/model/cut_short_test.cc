// A long prompt's step that is cut short between two layers for somebody who arrived: what it
// computed is what a shorter step computes, and what is computed again has the same bits.
#include <atomic>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/model/loaded_models.h"
#include "tests/model/sequence_driver.h"

namespace modu::engine {
namespace {

/// All tokens of `ids`, of which a last row wants every token's log probability, in one step that
/// may end with `least` tokens.
ForwardInput LongStep(const ModelRunner& runner, tests::SequenceDriver& sequence,
                      const std::vector<int32_t>& ids, int32_t least, uint64_t step) {
  ForwardInput input;
  input.step = step;
  input.least_tokens = least;
  sequence.AddTo(&input, ids);
  input.sample_rows = {
      tests::TargetRow(static_cast<int32_t>(ids.size()) - 1, 0, runner.spec().vocab_size)};
  return input;
}

}  // namespace

TEST_CASE("a step that is cut short computes its first tokens, and the others later as ever") {
  const Backend backend = GENERATE(Backend{"ref"}, Backend{"cpu", Numerics::kInt8},
                                   Backend{"cpu", Numerics::kPhased, 2});
  INFO(backend.name << " " << static_cast<int>(backend.numerics));
  tests::SmallModel sizes;
  sizes.layers = 4;
  const BothKinds files(tests::MakeSmallModel("llama", 41, sizes), /*q8_0=*/true);
  LoadedModel loaded = Load(files.gguf(), backend);
  ModelRunner* const runner = loaded.runner.get();
  const auto ids = RandomIds(100, runner->spec().vocab_size, 9);

  const auto run = [&](tests::SequenceDriver& sequence, int32_t least, uint64_t step) {
    return runner->Wait(runner->Launch(LongStep(*runner, sequence, ids, least, step)));
  };
  std::atomic<bool> arrived{true};
  tests::SequenceDriver whole(runner, 0, 8);
  const StepOutput want = run(whole, 0, 1);
  REQUIRE(want.status.ok());
  REQUIRE(want.num_tokens == -1);

  // Nobody watches, nobody comes, or all tokens fit: the step is whole.
  const auto is_whole = [&](int32_t least) {
    tests::SequenceDriver again(runner, 8, 8);
    const StepOutput got = run(again, least, 2);
    return got.status.ok() && got.num_tokens == -1 &&
           SameBits({got.rows[0].top_logprobs}, {want.rows[0].top_logprobs});
  };
  CHECK(is_whole(30));
  runner->WatchArrivals(&arrived);
  CHECK(is_whole(0));
  CHECK(is_whole(75));  // 75 through four layers, or 100 through three
  arrived = false;
  CHECK(is_whole(30));
  arrived = true;

  tests::SequenceDriver cut(runner, 16, 8);
  const StepOutput early = run(cut, 30, 3);
  REQUIRE(early.status.ok());
  CHECK(early.num_tokens == 40);  // through three layers what 30 take through four
  CHECK(early.rows.empty());

  // Its blocks again, from the first token that is missing: KV of the first 40 is right.
  tests::SequenceDriver rest(runner, 16, 8);
  ForwardInput skipped;
  rest.AddTo(&skipped, {ids.begin(), ids.begin() + early.num_tokens});
  ForwardInput input;
  input.step = 4;
  rest.AddTo(&input, {ids.begin() + early.num_tokens, ids.end()});
  input.sample_rows = {tests::TargetRow(99 - early.num_tokens, 0, runner->spec().vocab_size)};
  const StepOutput got = runner->Wait(runner->Launch(std::move(input)));
  REQUIRE(got.status.ok());
  CHECK(SameBits({got.rows[0].top_logprobs}, {want.rows[0].top_logprobs}));

  ForwardInput two;
  two.step = 5;
  two.least_tokens = 1;
  tests::SequenceDriver a(runner, 24, 8), b(runner, 32, 8);
  a.AddTo(&two, {1, 2});
  b.AddTo(&two, {3});
  CHECK(runner->Wait(runner->Launch(std::move(two))).status.code() == absl::StatusCode::kInternal);
}

}  // namespace modu::engine
