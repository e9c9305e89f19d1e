// A prefix that many prompts begin with is computed once, also when they all come at once, and
// nobody waits who does not share it.
#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "engine/engine.h"
#include "tests/catch.h"
#include "tests/engine/answers.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

/// An engine over the fake model with room for everything, so that nothing is evicted.
struct House {
  explicit House(EngineOptions options, int depth = 1) {
    RunnerSpec spec;
    spec.groups = {{"full", kBlock, 20'000, 0}};
    spec.vocab_size = 1000;
    spec.max_model_len = 4000;
    spec.max_batch_tokens = 256;
    spec.max_sequences = 64;
    auto owned = std::make_unique<FakeRunner>(spec, depth);
    runner = owned.get();
    engine = std::make_unique<Engine>(std::move(owned), options, &clock, &sink);
  }
  void Submit(const Request& request) {
    REQUIRE(engine->Submit(request).ok());
    requests.push_back(request);
  }
  /// The turns it took.
  int RunUntilIdle() {
    for (int turn = 1; turn < 10'000; ++turn) {
      const bool more = engine->RunOnce();
      REQUIRE(engine->SelfCheck() == "");
      if (!more) return turn;
    }
    FAIL("the engine did not come to rest");
    return 0;
  }
  /// Turns until the request's first token.
  int RunUntilToken(RequestId id) {
    int turns = 0;
    for (; sink.tokens[id].empty() && turns < 10'000; ++turns) engine->RunOnce();
    return turns;
  }
  void CheckAnswers() {
    for (const Request& request : requests) {
      if (sink.reasons[request.id] == FinishReason::kCancelled) continue;
      INFO("request " << request.id);
      CHECK(sink.tokens[request.id] == FakeRunner::Answer(runner->spec(), request));
    }
    CHECK(runner->violations == std::vector<std::string>{});
    CHECK(runner->slots_in_use() == 0);
  }

  static constexpr int kBlock = 32;
  FakeClock clock;
  Answers sink;
  FakeRunner* runner = nullptr;
  std::unique_ptr<Engine> engine;
  std::vector<Request> requests;
};

Request MakeRequest(RequestId id, int shared, int own, int max_tokens) {
  Request request;
  request.id = id;
  for (int i = 0; i < shared; ++i) request.prompt_ids.push_back(1 + i % 700);
  for (int i = 0; i < own; ++i) {
    request.prompt_ids.push_back(static_cast<int32_t>((id * 37 + static_cast<uint64_t>(i)) % 1000));
  }
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  request.arrival_ns = static_cast<int64_t>(id);
  return request;
}

constexpr int kUsers = 64, kPrefix = 1000, kOwn = 20;
// 31 blocks are common; the rest of each prompt is its own.
constexpr int kCommon = kPrefix / House::kBlock * House::kBlock;
constexpr int kRest = kPrefix + kOwn - kCommon;

TEST_CASE("64 prompts with 1,000 common tokens, all at once: their prefix is computed once") {
  const int depth = GENERATE(1, 2, 3);
  const int max_running = GENERATE(8, 64);
  EngineOptions options;
  options.max_running = max_running;
  House house(options, depth);
  for (int i = 1; i <= kUsers; ++i) house.Submit(MakeRequest(i, kPrefix, kOwn, 1));
  house.RunUntilIdle();
  house.CheckAnswers();
  CHECK(house.runner->tokens_computed == kCommon + kUsers * kRest);
  const EngineStats stats = house.engine->Stats();
  CHECK(stats.prompt_tokens_cached == static_cast<uint64_t>((kUsers - 1) * kCommon));
  CHECK(stats.prompt_tokens == static_cast<uint64_t>(kUsers * (kPrefix + kOwn)));
}

TEST_CASE("When the one that computes a common prefix is cancelled, the next one goes on with it") {
  const int depth = GENERATE(1, 2);
  House house({}, depth);
  for (int i = 1; i <= kUsers; ++i) house.Submit(MakeRequest(i, kPrefix, kOwn, 1));
  // The first gets two chunks on; its blocks stay in the cache.
  for (int turn = 0; turn < 2; ++turn) house.engine->RunOnce();
  house.engine->Cancel(1);
  house.RunUntilIdle();
  house.CheckAnswers();
  CHECK(house.sink.reasons[1] == FinishReason::kCancelled);
  const int64_t all_but_first = kCommon + (kUsers - 1) * kRest;
  CHECK(house.runner->tokens_computed >= all_but_first);
  // What was launched and not waited for when it was cancelled is computed again, no more.
  CHECK(house.runner->tokens_computed <= all_but_first + depth * 256);
}

TEST_CASE("A prompt that shares nothing does not wait behind a crowd that waits for a prefix") {
  const auto turns_behind = [](int crowd) {
    EngineOptions options;
    options.step_budget.max_slowdown = 0;
    House house(options);
    // The crowd's first is under way and leaves half of each step to others.
    house.Submit(MakeRequest(1, 3000, kOwn, 1));
    house.engine->RunOnce();
    for (int i = 2; i <= 1 + crowd; ++i) house.Submit(MakeRequest(i, 3000, kOwn, 1));
    house.Submit(MakeRequest(1000, 0, 40, 1));
    const int turns = house.RunUntilToken(1000);
    house.RunUntilIdle();
    house.CheckAnswers();
    return turns;
  };
  const int alone = turns_behind(0);
  CHECK(turns_behind(1) == alone);
  CHECK(turns_behind(500) == alone);
}

TEST_CASE("Nobody waits for a prefix that one computes who stands still") {
  House house({});
  Request background = MakeRequest(1, 3000, kOwn, 1);
  background.priority = 5;
  house.Submit(background);
  for (int turn = 0; turn < 2; ++turn) house.engine->RunOnce();
  // Takes all of each step that no other urgent one wants.
  house.Submit(MakeRequest(2, 0, 3900, 1));
  for (int turn = 0; turn < 3; ++turn) house.engine->RunOnce();
  house.Submit(MakeRequest(3, 1000, kOwn, 1));
  house.RunUntilToken(3);
  CHECK(house.sink.tokens[2].empty());
  CHECK(house.sink.tokens[1].empty());
  house.RunUntilIdle();
  house.CheckAnswers();
}

/// Prompts of families that branch at random places, and never a whole number of blocks.
Request RandomRequest(RequestId id, std::mt19937& random) {
  const auto between = [&](int lo, int hi) {
    return lo + static_cast<int>(random() % static_cast<unsigned>(hi - lo + 1));
  };
  Request request;
  request.id = id;
  request.tenant = static_cast<TenantId>(between(1, 2));
  request.cache_salt = static_cast<uint64_t>(between(0, 1));
  const int length = House::kBlock * between(0, 12) + between(1, House::kBlock - 1);
  const int branch = between(0, 3) * 50, family = between(1, 3), twig = between(1, 2);
  for (int i = 0; i < length; ++i) {
    request.prompt_ids.push_back((i * 7 + family * 100 + (i >= branch ? twig * 31 : 0)) % 1000);
  }
  request.sampling.max_tokens = 1;  // an answer's tokens would be blocks of their own
  request.arrival_ns = static_cast<int64_t>(id);
  return request;
}

/// What has to be computed when no block is computed twice: each distinct block after its prefix,
/// and of each prompt what is behind its last whole block.
int64_t LeastTokens(const std::vector<Request>& requests) {
  std::set<std::tuple<TenantId, uint64_t, std::vector<int32_t>>> prefixes;
  int64_t tokens = 0;
  for (const Request& request : requests) {
    const auto length = static_cast<int>(request.prompt_ids.size());
    for (int end = House::kBlock; end <= length; end += House::kBlock) {
      prefixes.emplace(
          request.tenant, request.cache_salt,
          std::vector<int32_t>(request.prompt_ids.begin(), request.prompt_ids.begin() + end));
    }
    tokens += length % House::kBlock;
  }
  return tokens + static_cast<int64_t>(prefixes.size()) * House::kBlock;
}

// But for the blocks of one that stood still while others were read first, and whom nobody waits
// for: few, in few of the runs.
TEST_CASE("Whatever comes when: no block of a prompt is computed twice while there is room") {
  int twice = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    EngineOptions options;
    options.max_running = 1 + static_cast<int>(random() % 40);
    options.max_step_tokens = 40 + static_cast<int>(random() % 217);
    const bool cached = seed % 6 != 0;
    options.prefix_cache = cached;
    House house(options, 1 + static_cast<int>(random() % 3));
    const int count = 20 + static_cast<int>(random() % 60);
    for (int i = 1; i <= count; ++i) {
      house.Submit(RandomRequest(static_cast<RequestId>(i), random));
      for (unsigned turn = random() % 3; turn > 0; --turn) house.engine->RunOnce();
    }
    house.RunUntilIdle();
    house.CheckAnswers();
    int64_t all = 0;
    for (const Request& request : house.requests) {
      all += static_cast<int64_t>(request.prompt_ids.size());
    }
    const int64_t least = LeastTokens(house.requests);
    REQUIRE(least < all);
    const int64_t computed = house.runner->tokens_computed;
    if (!cached) {
      CHECK(computed == all);
      continue;
    }
    CHECK(computed >= least);
    CHECK(computed <= least + 4 * House::kBlock);
    twice += computed > least;
  }
  CHECK(twice <= 5);
}

}  // namespace
}  // namespace modu::engine
