// Phased numerics: a row is computed as its phase wants, whatever is in the step beside it.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/model/loaded_models.h"

namespace modu::engine {
namespace {

using kernels::Phase;
using Logprobs = std::vector<std::vector<TokenLogprob>>;

constexpr kernels::DType kKv = kernels::DType::kBF16;  // the same in all modes

/// The three modes of one Q8_0 model.
struct Modes {
  explicit Modes(const std::string& backend, int threads = 1)
      : model(tests::MakeSmallModel("qwen3", 13)),
        files(model, /*q8_0=*/true),
        bf16(Load(files.gguf(), {backend, Numerics::kBf16, threads}, kKv)),
        int8(Load(files.gguf(), {backend, Numerics::kInt8, threads}, kKv)),
        phased(Load(files.gguf(), {backend, Numerics::kPhased, threads}, kKv)) {}

  Logprobs Of(const LoadedModel& loaded, const std::vector<int32_t>& ids, Phase phase,
              const std::vector<size_t>& chunks = {100}, int32_t first_block = 0) const {
    return AllLogprobs(loaded.runner.get(), ids, chunks, first_block, phase);
  }

  tests::SmallModel model;
  BothKinds files;
  LoadedModel bf16, int8, phased;
};

}  // namespace

TEST_CASE("generated tokens have the bits of int8, prompts are as near to bf16 as the head lets") {
  const std::string backend = GENERATE("ref", "cpu");
  const Modes modes(backend);
  INFO(modes.phased.device);
  CHECK(modes.phased.device.find("phased") != std::string::npos);
  CHECK(modes.phased.runner->spec().phased);
  CHECK_FALSE(modes.bf16.runner->spec().phased);
  CHECK_FALSE(modes.int8.runner->spec().phased);
  const auto ids = RandomIds(100, modes.model.vocab, 7);
  const Logprobs bf16 = modes.Of(modes.bf16, ids, Phase::kPrompt);
  const Logprobs int8 = modes.Of(modes.int8, ids, Phase::kPrompt);
  CHECK_FALSE(SameBits(bf16, int8));
  // Other modes know no phases.
  CHECK(SameBits(bf16, modes.Of(modes.bf16, ids, Phase::kGeneration)));
  CHECK(SameBits(int8, modes.Of(modes.int8, ids, Phase::kGeneration)));
  CHECK(SameBits(int8, modes.Of(modes.phased, ids, Phase::kGeneration)));
  const Logprobs prompt = modes.Of(modes.phased, ids, Phase::kPrompt);
  CHECK_FALSE(SameBits(prompt, bf16));  // the head multiplies int8
  CHECK_FALSE(SameBits(prompt, int8));
  CHECK(Compare(prompt, bf16).mean < 0.8 * Compare(int8, bf16).mean);
}

TEST_CASE("a phase's bits do not depend on chunks, on rows of the other, or on threads") {
  const std::string backend = GENERATE("ref", "cpu");
  const Modes modes(backend);
  ModelRunner* const runner = modes.phased.runner.get();
  const auto prompt = RandomIds(60, modes.model.vocab, 7);
  const auto answer = RandomIds(12, modes.model.vocab, 8);
  const auto others = RandomIds(40, modes.model.vocab, 9);

  // A prompt, then an answer token by token: what the rows below are compared with.
  const auto rows = [&](size_t count, int32_t first_row) {
    std::vector<SampleRow> rows;
    for (size_t i = 0; i < count; ++i) {
      rows.push_back(tests::TargetRow(first_row + static_cast<int32_t>(i), 0, modes.model.vocab));
    }
    return rows;
  };
  const auto logprobs = [](const StepOutput& step, size_t first, size_t count) {
    REQUIRE(step.status.ok());
    Logprobs of_rows;
    for (size_t i = first; i < first + count; ++i) of_rows.push_back(step.rows[i].top_logprobs);
    return of_rows;
  };
  Logprobs want_prompt, want_answer;
  {
    tests::SequenceDriver sequence(runner, 0, 8);
    want_prompt = logprobs(sequence.Step(prompt, rows(60, 0)), 0, 60);
    for (const int32_t id : answer) {
      const StepOutput step = sequence.Step({id}, rows(1, 0), Phase::kGeneration);
      want_answer.push_back(logprobs(step, 0, 1).front());
    }
  }
  for (const std::vector<size_t>& chunks : {std::vector<size_t>{1}, {31, 1, 33}, {7}}) {
    CHECK(SameBits(want_prompt, modes.Of(modes.phased, prompt, Phase::kPrompt, chunks, 16)));
  }
  {
    const Modes threaded(backend, backend == "cpu" ? 2 : 1);
    CHECK(SameBits(want_prompt, threaded.Of(threaded.phased, prompt, Phase::kPrompt, {13})));
  }
  // Preempted, and back: all of it in two chunks, while another prompt comes in.
  tests::SequenceDriver again(runner, 8, 8), other(runner, 16, 8), third(runner, 24, 8);
  REQUIRE(again.Step(prompt, {}).status.ok());
  REQUIRE(third.Step({others.begin(), others.begin() + 30}, {}).status.ok());
  ForwardInput mixed;
  mixed.num_generated_seqs = 2;
  again.AddTo(&mixed, answer);
  third.AddTo(&mixed, {others[30], others[31]});
  other.AddTo(&mixed, prompt);
  mixed.sample_rows = rows(12, 0);
  for (const SampleRow& row : rows(60, 14)) mixed.sample_rows.push_back(row);
  const StepOutput step = runner->Wait(runner->Launch(std::move(mixed)));
  CHECK(SameBits(want_answer, logprobs(step, 0, 12)));
  CHECK(SameBits(want_prompt, logprobs(step, 12, 60)));
  // As a prompt the answer is other numbers: this test would see it.
  tests::SequenceDriver as_prompt(runner, 8, 8);
  REQUIRE(as_prompt.Step(prompt, {}).status.ok());
  CHECK_FALSE(SameBits(want_answer, logprobs(as_prompt.Step(answer, rows(12, 0)), 0, 12)));
}

TEST_CASE("a prompt's last row beside an answer, and what a clock tells of the two") {
  class Ticks final : public Clock {
   public:
    int64_t NowNs() const override { return now_ns += 10; }
    mutable int64_t now_ns = 1000;
  } clock;
  const Modes modes("ref");
  RunnerOptions options = Options();
  options.kv_dtype = kKv;
  options.clock = &clock;
  const auto load = [&](Numerics numerics) {
    auto loaded = LoadModel(modes.files.gguf(), OpenDevice({"ref", numerics}), options, nullptr);
    REQUIRE(loaded.ok());
    return *std::move(loaded);
  };
  const LoadedModel phased = load(Numerics::kPhased), int8 = load(Numerics::kInt8);
  const auto prompt = RandomIds(40, modes.model.vocab, 3);
  const auto last = [&](const LoadedModel& loaded, bool mixed) {
    ModelRunner* const runner = loaded.runner.get();
    tests::SequenceDriver answer(runner, 0, 8), asked(runner, 8, 8);
    REQUIRE(answer.Step({5, 6, 7}, {}).status.ok());
    ForwardInput input;
    input.num_generated_seqs = mixed ? 1 : 0;
    if (mixed) answer.AddTo(&input, {8});
    asked.AddTo(&input, prompt);
    if (mixed) input.sample_rows.push_back(tests::TargetRow(0, 0, modes.model.vocab));
    input.sample_rows.push_back(tests::TargetRow(
        static_cast<int32_t>(prompt.size()) - (mixed ? 0 : 1), 0, modes.model.vocab));
    StepOutput step = runner->Wait(runner->Launch(std::move(input)));
    REQUIRE(step.status.ok());
    return step;
  };
  const StepOutput mixed = last(phased, true), alone = last(phased, false);
  CHECK(SameBits({mixed.rows[1].top_logprobs}, {alone.rows[0].top_logprobs}));
  CHECK(mixed.prompt_ns == 10);
  CHECK(mixed.prompt_ns < mixed.forward_ns);
  CHECK(last(int8, true).prompt_ns == 0);  // one pass
  // Answers alone.
  tests::SequenceDriver sequence(phased.runner.get(), 0, 8);
  REQUIRE(sequence.Step({5, 6, 7}, {}).status.ok());
  CHECK(sequence.Step({8}, {}, Phase::kGeneration).prompt_ns == 0);
}

TEST_CASE("where nothing is quantised there is one phase") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 12);
  const BothKinds files(model);
  const LoadedModel phased = Load(files.folder(), {"cpu", Numerics::kPhased}, kKv);
  const LoadedModel bf16 = Load(files.folder(), {"cpu", Numerics::kBf16}, kKv);
  CHECK_FALSE(phased.runner->spec().phased);
  CHECK(phased.weight_bytes == bf16.weight_bytes);
  const auto ids = RandomIds(40, model.vocab, 5);
  CHECK(SameBits(AllLogprobs(phased.runner.get(), ids, {40}),
                 AllLogprobs(bf16.runner.get(), ids, {40})));
}

TEST_CASE("a packet whose phases are out of range is refused") {
  const Modes modes("ref");
  ModelRunner* const runner = modes.phased.runner.get();
  for (const int32_t wrong : {-1, 2}) {
    tests::SequenceDriver sequence(runner, 0, 8);
    ForwardInput input;
    sequence.AddTo(&input, {1, 2});
    input.num_generated_seqs = wrong;
    CHECK_FALSE(runner->Wait(runner->Launch(std::move(input))).status.ok());
  }
  for (const int32_t right : {0, 1}) {
    tests::SequenceDriver sequence(runner, 0, 8);
    ForwardInput input;
    sequence.AddTo(&input, {1, 2});
    input.num_generated_seqs = right;
    CHECK(runner->Wait(runner->Launch(std::move(input))).status.ok());
  }
}

}  // namespace modu::engine
