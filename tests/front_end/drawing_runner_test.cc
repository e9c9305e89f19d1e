// The benchmark's model must keep the engine's contract, or what is measured on it is something
// else.
#include "benchmarks/serving/drawing_runner.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/catch.h"

namespace modu::benchmark {
namespace {

using engine::RequestId;

struct Answers final : engine::EventSink {
  void Deliver(engine::StepEvents events) override {
    for (const engine::TokenEvent& event : events.tokens)
      tokens[event.request].push_back(event.token_id);
    for (const engine::TerminalEvent& event : events.terminals) ends[event.request] = event.reason;
  }
  std::map<RequestId, std::vector<int32_t>> tokens;
  std::map<RequestId, engine::FinishReason> ends;
};

/// Three requests of 100 tokens, the first and the last with the same seed.
Answers Run(std::vector<int32_t> drawable, int32_t max_draft_tokens, int32_t num_blocks) {
  engine::RunnerSpec spec;
  spec.groups = {{"full", 16, num_blocks, 0}};
  spec.vocab_size = 1'000;
  spec.max_model_len = 256;
  spec.max_batch_tokens = 64;
  spec.max_sequences = 8;
  spec.eos_ids = {2};
  engine::EngineOptions options;
  options.max_draft_tokens = max_draft_tokens;
  Answers answers;
  const engine::SteadyClock clock;
  engine::Engine engine(
      std::make_unique<DrawingRunner>(spec, std::move(drawable), std::chrono::microseconds(0)),
      options, &clock, &answers);
  for (RequestId id = 1; id <= 3; ++id) {
    engine::Request request;
    request.id = id;
    request.prompt_ids = {5, 6, 7, static_cast<int32_t>(id)};
    request.sampling.max_tokens = 100;
    request.sampling.seed = id == 2 ? 8 : 9;
    REQUIRE(engine.Submit(std::move(request)).ok());
  }
  while (answers.ends.size() < 3) REQUIRE(engine.RunOnce());
  CHECK(engine.SelfCheck().empty());
  return answers;
}

}  // namespace

TEST_CASE("tokens are of those that may be drawn, and a function of seed and position") {
  const std::vector<int32_t> drawable = {10, 20, 30, 999};
  const Answers answers = Run(drawable, 0, 64);
  for (const auto& [id, tokens] : answers.tokens) {
    CHECK(tokens.size() == 100);
    CHECK(answers.ends.at(id) == engine::FinishReason::kLength);
    for (const int32_t token : tokens)
      CHECK(std::find(drawable.begin(), drawable.end(), token) != drawable.end());
  }
  CHECK(answers.tokens.at(1) == answers.tokens.at(3));
  CHECK(answers.tokens.at(1) != answers.tokens.at(2));
}

TEST_CASE("neither guesses nor preemption change an answer") {
  const std::vector<int32_t> drawable = {10, 20};  // repeats itself: guesses are made, and fail
  const Answers plain = Run(drawable, 0, 64);
  CHECK(Run(drawable, 4, 64).tokens == plain.tokens);
  CHECK(Run(drawable, 0, 9).tokens == plain.tokens);  // room for one of them and a little
}

}  // namespace modu::benchmark
