// Guessing what comes next: the guess itself, and that no guess, right or wrong, changes an answer.
#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler/prompt_lookup.h"
#include "tests/catch.h"
#include "tests/engine/answers.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

std::vector<int32_t> Draft(const std::vector<int32_t>& tokens, int32_t most) {
  std::vector<int32_t> draft;
  LookUpDraft(tokens, most, &draft);
  return draft;
}

/// By trying every place and every length.
std::vector<int32_t> SlowDraft(const std::vector<int32_t>& tokens, int32_t most) {
  const auto size = static_cast<int32_t>(tokens.size());
  for (int32_t length = 4; length >= 2; --length) {
    for (int32_t end = size - 1; end >= length; --end) {
      const bool same =
          std::equal(tokens.begin() + end - length, tokens.begin() + end, tokens.end() - length);
      if (!same) continue;
      std::vector<int32_t> all = tokens;
      for (int32_t j = 0; j < most; ++j) all.push_back(all[static_cast<size_t>(end + j)]);
      return {all.begin() + size, all.end()};
    }
  }
  return {};
}

class CountingSink final : public Answers {
 public:
  void Deliver(StepEvents events) override {
    steps += events.steps.size();
    for (const StepRecord& step : events.steps) rows = std::max(rows, step.num_tokens);
    Answers::Deliver(std::move(events));
  }
  size_t steps = 0;
  int32_t rows = 0;
};

RunnerSpec WideSpec(int32_t num_blocks = 200) {
  RunnerSpec spec;
  spec.groups = {{"full", 4, num_blocks, 0}};
  spec.vocab_size = 50;
  spec.max_model_len = 300;
  spec.max_batch_tokens = 64;
  spec.max_sequences = 16;
  return spec;
}

Request LongAnswer(RequestId id, int32_t max_tokens) {
  Request request;
  request.id = id;
  for (int32_t i = 0; i < 20; ++i) request.prompt_ids.push_back(i % 3);
  request.sampling.seed = id | FakeRunner::kRepetitive;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

struct Outcome {
  CountingSink sink;
  EngineStats stats;
  std::vector<std::string> violations;
};

std::unique_ptr<Outcome> Run(const RunnerSpec& spec, int depth, int32_t drafts,
                             const std::vector<Request>& requests, const FakeFaults& faults = {}) {
  auto outcome = std::make_unique<Outcome>();
  FakeClock clock;
  auto owned = std::make_unique<FakeRunner>(spec, depth);
  FakeRunner* const runner = owned.get();
  runner->faults = faults;
  EngineOptions options;
  options.max_draft_tokens = drafts;
  Engine engine(std::move(owned), options, &clock, &outcome->sink);
  for (const Request& request : requests) REQUIRE(engine.Submit(request).ok());
  while (engine.RunOnce()) REQUIRE(engine.SelfCheck() == "");
  outcome->stats = engine.Stats();
  outcome->violations = runner->violations;
  CHECK(runner->slots_in_use() == 0);
  return outcome;
}

TEST_CASE("a draft is what followed the last of the longest matches") {
  CHECK(Draft({1, 2, 3, 9, 1, 2}, 3) == std::vector<int32_t>{3, 9, 1});
  CHECK(Draft({1, 2, 3, 9, 1, 2}, 1) == std::vector<int32_t>{3});
  CHECK(Draft({7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2}, 2) == std::vector<int32_t>{3, 8});  // three agree
  CHECK(Draft({1, 2, 3, 1, 2, 4, 1, 2}, 1) == std::vector<int32_t>{4});  // of equals the latest
  CHECK(Draft({5, 6, 5, 6}, 5) == std::vector<int32_t>{5, 6, 5, 6, 5});  // goes on as it repeats
  CHECK(Draft({1, 1, 1}, 2) == std::vector<int32_t>{1, 1});
  CHECK(Draft({1, 2, 3, 2}, 4).empty());  // one token alone is no match
  CHECK(Draft({1, 2, 1, 2}, 0).empty());
  CHECK(Draft({}, 4).empty());
  CHECK(Draft({1}, 4).empty());
  CHECK(Draft({1, 1}, 4).empty());
}

TEST_CASE("drafts of random texts, against trying everything") {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    const auto vocab = 2 + random() % 4;
    std::vector<int32_t> tokens(random() % 30);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
    const auto most = static_cast<int32_t>(random() % 9);
    if (most == 0) continue;
    REQUIRE(Draft(tokens, most) == SlowDraft(tokens, most));
  }
}

TEST_CASE("drafts grow where they are right, and pause where they are wrong") {
  DraftHistory history;
  const int32_t first = history.Propose(100);
  CHECK(first >= 1);
  history.Learn(first, first);
  const int32_t second = history.Propose(100);
  CHECK(second > first);
  CHECK(history.Propose(3) == std::min(3, second));
  history.Learn(second, 1);
  CHECK(history.Propose(100) < second);
  int proposed = 0;
  for (int i = 0; i < 1000; ++i) {
    if (history.Propose(100) == 0) continue;
    ++proposed;
    history.Learn(1, 0);
  }
  CHECK(proposed < 50);  // never right: hardly ever asked
  CHECK(proposed > 10);  // and never given up
}

TEST_CASE("answers are the same with drafts, in fewer steps") {
  const RunnerSpec spec = WideSpec();
  for (const int depth : {1, 2, 3}) {
    for (const size_t crowd : {1u, 2u, 5u}) {
      std::vector<Request> requests;
      for (RequestId id = 1; id <= crowd; ++id) requests.push_back(LongAnswer(id, 200));
      const auto plain = Run(spec, depth, 0, requests);
      for (const int32_t drafts : {1, 3, 8}) {
        INFO("depth " << depth << ", " << crowd << " at once, " << drafts << " drafts");
        const auto drafted = Run(spec, depth, drafts, requests);
        CHECK(drafted->violations == std::vector<std::string>{});
        for (const Request& request : requests)
          CHECK(drafted->sink.tokens[request.id] == FakeRunner::Answer(spec, request));
        CHECK(drafted->stats.generation_tokens == 200 * crowd);
        CHECK(drafted->sink.rows <= std::max(8, 20 * static_cast<int32_t>(crowd)));
        if (depth > 1)
          continue;  // there the next step is launched before this one's tokens are known
        CHECK(drafted->stats.accepted_draft_tokens > 10);
        CHECK(drafted->stats.accepted_draft_tokens < drafted->stats.draft_tokens);
        CHECK(drafted->sink.steps < plain->sink.steps);
        if (crowd == 1)
          CHECK(drafted->sink.steps + drafted->stats.accepted_draft_tokens == plain->sink.steps);
      }
    }
  }
}

TEST_CASE(
    "a draft stops where the answer does: at its length, its stop ids and the end of the KV") {
  RunnerSpec spec = WideSpec(6);  // 24 tokens in all
  spec.max_model_len = 24;
  for (int32_t max_tokens = 1; max_tokens <= 4; ++max_tokens) {
    const Request request = LongAnswer(1, max_tokens);
    const auto outcome = Run(spec, 1, 8, {request});
    CHECK(outcome->sink.tokens[1] == FakeRunner::Answer(spec, request));
    CHECK(outcome->sink.reasons[1] == FinishReason::kLength);
    CHECK(outcome->violations == std::vector<std::string>{});
  }
  spec = WideSpec();
  int stopped = 0;
  for (RequestId id = 1; id <= 40; ++id) {
    Request request = LongAnswer(id, 100);
    request.sampling.stop_token_ids = {2, 3, 4, 5, 6, 7};
    request.sampling.min_tokens = static_cast<int32_t>(id);
    const auto outcome = Run(spec, 1, 8, {request});
    REQUIRE(outcome->sink.tokens[id] == FakeRunner::Answer(spec, request));
    stopped += outcome->sink.reasons[id] == FinishReason::kStop;
    CHECK(outcome->violations == std::vector<std::string>{});
  }
  CHECK(stopped > 20);
}

TEST_CASE("who waits or reads a prompt has the rows that drafts would take") {
  const RunnerSpec spec = WideSpec();
  std::vector<Request> requests;
  for (RequestId id = 1; id <= 9; ++id) requests.push_back(LongAnswer(id, 60));
  const auto outcome = Run(spec, 1, 8, requests);  // nine at once: no row to spare
  CHECK(outcome->stats.num_drafts == 0);
  for (const Request& request : requests)
    CHECK(outcome->sink.tokens[request.id] == FakeRunner::Answer(spec, request));
}

TEST_CASE(
    "a row that is not finite after a right guess fails what follows it, not what came before") {
  const RunnerSpec spec = WideSpec();
  const Request request = LongAnswer(1, 200);
  const std::vector<int32_t> answer = FakeRunner::Answer(spec, request);
  FakeFaults faults;
  int drafts = 0;
  faults.row_is_nan = [&](const SampleRow& row) { return row.after_draft && ++drafts == 5; };
  const auto outcome = Run(spec, 1, 8, {request}, faults);
  const std::vector<int32_t>& got = outcome->sink.tokens[1];
  CHECK(outcome->sink.reasons[1] == FinishReason::kFailed);
  REQUIRE(got.size() >= 5);
  REQUIRE(got.size() < answer.size());
  CHECK(std::equal(got.begin(), got.end(), answer.begin()));
  CHECK(outcome->stats.blocks_held == 0);
}

}  // namespace
}  // namespace modu::engine
