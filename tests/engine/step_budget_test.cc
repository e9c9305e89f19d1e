// The step budget against machines of known speed, alone and under a scheduler.
#include "engine/scheduler/step_budget.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "tests/catch.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

struct Machine {
  double step, decode, token, pair;  // ns
  double apart = 0;                  // of any prefill beside decodes
  double Takes(const StepShape& shape) const {
    return step + decode * shape.decodes + token * shape.prefill_tokens +
           pair * static_cast<double>(shape.prefill_pairs) +
           (shape.prefill_tokens > 0 && shape.decodes > 0 ? apart : 0);
  }
};

constexpr Machine kMachines[] = {
    {5e6, 1.2e6, 0.9e6, 300},   // two small cores
    {2e6, 0.1e6, 0.1e6, 50},    // a large server
    {2.5e6, 0.02e6, 5e3, 0.1},  // an accelerator
    {40e6, 9e6, 8e6, 20'000},   // something slow with long contexts
};
// Two cores with tiles, whose prompts go apart beside decodes.
constexpr Machine kTiles = {3e6, 0.55e6, 0.25e6, 10, 5e6};

/// Plans and learns one step with `decodes` beside one prompt at `first`; returns its shape.
StepShape Step(StepBudget& budget, const Machine& machine, int32_t decodes, int32_t first,
               int32_t wanted, double noise = 1.0) {
  StepShape shape;
  shape.bound_ns = budget.Begin(decodes, decodes);
  shape.decodes = decodes;
  shape.prefill_tokens = wanted > 0 ? budget.Fit(first, std::min(wanted, 256)) : 0;
  shape.prefill_pairs = PrefillPairs(first, shape.prefill_tokens);
  const double took = machine.Takes(shape) * noise;
  if (machine.apart > 0 && decodes > 0) {  // such a machine can tell
    shape.prefill_ns = std::max(0.0, took - machine.Takes({decodes, 0, 0}));
  }
  budget.Learn(shape, static_cast<int64_t>(took));
  return shape;
}

}  // namespace

TEST_CASE("what the budget has learned keeps mixed steps near the bound, on any machine") {
  for (const Machine& machine : kMachines) {
    for (int32_t decodes : {1, 15, 64}) {
      CAPTURE(machine.step, decodes);
      StepBudgetOptions options;
      options.min_prefill_tokens = 1;
      StepBudget budget(options);
      for (int i = 0; i < 20; ++i) Step(budget, machine, decodes, 0, 0);
      const double alone = machine.Takes({decodes, 0, 0});
      const double bound = std::max(options.max_slowdown * alone, double(options.min_step_ns));
      double longest = 0, shortest = 1e18;
      for (int prompt = 0; prompt < 8; ++prompt) {
        for (int32_t first = 0; first < 1500;) {
          const StepShape shape = Step(budget, machine, decodes, first, 1500 - first);
          first += shape.prefill_tokens;
          if (prompt < 2) continue;
          longest = std::max(longest, machine.Takes(shape));
          if (first < 1500) shortest = std::min(shortest, machine.Takes(shape));
        }
        for (int i = 0; i < 5; ++i) Step(budget, machine, decodes, 0, 0);
      }
      CHECK(longest < 1.25 * bound);
      // And it is used, but for the margin that the first mixed steps' errors leave.
      if (shortest < 1e18) CHECK(shortest > 0.55 * std::min(bound, longest));
    }
  }
}

TEST_CASE("prefill that goes through the model apart comes in fewer and larger chunks") {
  // Two cores with tiles: a pass over the weights takes what 40 tokens take.
  const Machine machine{3e6, 0.55e6, 0.12e6, 10, 5e6};
  constexpr int32_t kDecodes = 14, kPrompt = 200;
  const double bound = 2.3 * machine.Takes({kDecodes, 0, 0});
  const auto run = [&](bool apart) {
    StepBudgetOptions options;
    options.prefill_apart = apart;
    StepBudget budget(options);
    Step(budget, machine, 0, 0, 256);
    std::mt19937 random(3);
    int steps = 0;
    for (int prompt = 0; prompt < 60; ++prompt) {
      for (int32_t first = 0; first < kPrompt;) {
        const double noise = 0.97 + 0.06 * std::generate_canonical<double, 20>(random);
        const StepShape shape = Step(budget, machine, kDecodes, first, kPrompt - first, noise);
        first += shape.prefill_tokens;
        if (prompt < 20) continue;
        ++steps;
        CHECK(machine.Takes(shape) < 1.15 * bound);
      }
      for (int i = 0; i < 10; ++i) Step(budget, machine, kDecodes, 0, 0);
    }
    return steps / 40.0;
  };
  const double apart = run(true), together = run(false);
  INFO(apart << " " << together);
  CHECK(apart <= 4);  // of 62 tokens, two deviations below the bound
  CHECK(together > 1.2 * apart);
}

TEST_CASE("prefill that goes apart is cut where its tiles of 16 rows end, whoever fills them") {
  const Machine& machine = kTiles;
  StepBudgetOptions options;
  options.prefill_apart = true;
  StepBudget budget(options);
  for (int i = 0; i < 300; ++i) Step(budget, machine, 15, 100 * (i % 10), i % 3 == 0 ? 0 : 200);
  int sizes[5] = {};
  for (int32_t short_one = 0; short_one < 40; ++short_one) {
    for (const int32_t first : {0, 700, 1'400, 8'000}) {
      budget.Begin(15, 15);
      const int32_t of_short = budget.Fit(0, short_one);
      budget.Take(0, of_short);
      const int32_t of_long = budget.Fit(first, 1'000);
      const int32_t all = of_short + of_long;
      CAPTURE(short_one, first, of_long);
      REQUIRE(of_long >= 0);
      // Rows that one of the two would leave empty, the other takes.
      CHECK(all % 16 == 0);
      REQUIRE(all <= 64);
      ++sizes[all / 16];
      // Who comes first may not take more than what is nearest to the budget.
      if (short_one > 0) continue;
      const double left = 2.3 * budget.DecodeNs(15) - budget.DecodeNs(15) - 5e6;
      CHECK(budget.PrefillNs(first, std::max(0, of_long - 8)) < left);
    }
  }
  CHECK(sizes[0] == 0);
  CHECK(sizes[1] > 0);
  CHECK(sizes[2] + sizes[3] > 0);
}

TEST_CASE("what is held for one prompt, others' tiles do not take") {
  StepBudgetOptions options;
  options.prefill_apart = true;
  StepBudget budget(options);
  for (int i = 0; i < 300; ++i) Step(budget, kTiles, 15, 100 * (i % 10), i % 3 == 0 ? 0 : 200);
  int32_t least = 1'000, most = 0;
  for (int32_t decodes = 1; decodes < 60; ++decodes) {
    for (const int32_t first : {0, 900, 6'000}) {
      budget.Begin(decodes, decodes);
      const int32_t half = (budget.Fit(first, 1'000) + 1) / 2;
      const StepBudget::Share held = budget.Hold(first, half);
      for (int i = 0; i < 3; ++i) budget.Take(0, budget.Fit(0, 20));
      budget.GiveBack(held);
      CAPTURE(decodes, first);
      CHECK(budget.Fit(first, 1'000) >= half);
      least = std::min(least, half);
      most = std::max(most, half);
    }
  }
  CHECK(least == 8);
  CHECK(most >= 24);
}

TEST_CASE("an answer that is computed again teaches nothing, and told times are learned apart") {
  StepBudgetOptions options;
  options.prefill_apart = true;
  StepBudget budget(options);
  StepShape shape = {.decodes = 4, .prefill_tokens = 64, .prefill_pairs = PrefillPairs(0, 64)};
  for (int i = 0; i < 200; ++i) {
    shape.prefill_ns = 9e6;
    budget.Learn(shape, 14'000'000);
  }
  CHECK(std::abs(budget.DecodeNs(4) - 5e6) < 1e5);
  const double decodes = budget.DecodeNs(4), prefill = budget.PrefillNs(0, 64);
  shape.recomputes_answers = true;
  shape.prefill_ns = 0;
  budget.Learn(shape, 90'000'000);
  CHECK(budget.DecodeNs(4) == decodes);
  CHECK(budget.PrefillNs(0, 64) == prefill);
}

TEST_CASE("a fresh server's first crowd soon has the whole bound") {
  // Two small cores, prompts without end behind one decode: what a mixed step is off by is not
  // known before the first ones, and what was assumed of it must not outlive them.
  const Machine machine{2e6, 0.8e6, 0.35e6, 10};
  const double bound = static_cast<double>(StepBudgetOptions().min_step_ns);
  const auto fresh = [&] {
    StepBudget budget{StepBudgetOptions{}};
    Step(budget, machine, 0, 0, 256);
    for (int i = 0; i < 5; ++i) Step(budget, machine, 1, 0, 0);
    return budget;
  };
  StepBudget calm = fresh();
  for (int i = 0; i < 10; ++i) Step(calm, machine, 1, 0, 256);
  const double eleventh = machine.Takes(Step(calm, machine, 1, 0, 256));
  CHECK(eleventh > 0.75 * bound);
  CHECK(eleventh <= bound);

  // And a restless machine's first mixed steps are no longer for it.
  std::mt19937 random(1);
  std::uniform_real_distribution<double> noise(0.85, 1.2);
  int over = 0;
  for (int run = 0; run < 50; ++run) {
    StepBudget budget = fresh();
    for (int i = 0; i < 20; ++i) {
      const double factor = noise(random);
      over += machine.Takes(Step(budget, machine, 1, 0, 256, factor)) * factor > 1.1 * bound;
    }
  }
  CHECK(over <= 10);  // of 1,000
}

TEST_CASE("a crowd's first steps are bounded by what those of all of it will take") {
  const Machine& machine = kMachines[0];
  StepBudget budget{StepBudgetOptions{}};
  for (int i = 0; i < 40; ++i) Step(budget, machine, i % 2 == 0 ? 4 : 64, 100, i < 20 ? 0 : 100);
  const double alone = budget.Begin(4, 4);
  const int32_t fits_alone = budget.Fit(0, 500);
  CHECK(alone == Approx(2.3 * budget.DecodeNs(4)));
  CHECK(budget.Begin(4, 64) == Approx(2.3 * budget.DecodeNs(64)));
  CHECK(budget.Fit(0, 500) > 3 * fits_alone);
  CHECK(budget.Begin(64, 4) == budget.Begin(64, 64));  // guesses are rows too
  CHECK(budget.Begin(0, 64) == 0);
}

TEST_CASE("the budget follows a machine that becomes slower, and forgets single stalls") {
  StepBudget budget{StepBudgetOptions{}};
  const Machine& machine = kMachines[0];
  for (int i = 0; i < 50; ++i) Step(budget, machine, 15, 100, i % 2 == 0 ? 0 : 200);
  const int32_t before = Step(budget, machine, 15, 100, 200).prefill_tokens;
  Step(budget, machine, 15, 100, 0, 300.0);  // 7 s: the host was away
  for (int i = 0; i < 20; ++i) Step(budget, machine, 15, 100, 0);
  const int32_t after = Step(budget, machine, 15, 100, 200).prefill_tokens;
  CHECK(std::abs(after - before) <= before / 10 + 1);
  for (int i = 0; i < 40; ++i) Step(budget, machine, 15, 100, i % 2 == 0 ? 0 : 200, 3.0);
  CHECK(budget.DecodeNs(15) > 2.7 * machine.Takes({15, 0, 0}));
  CHECK(budget.DecodeNs(15) < 3.7 * machine.Takes({15, 0, 0}));
}

TEST_CASE("mixed steps that take longer than the bound are counted") {
  StepBudget budget{StepBudgetOptions{}};
  const Machine& machine = kMachines[0];
  for (int i = 0; i < 20; ++i) Step(budget, machine, 15, 0, 0);
  for (int i = 0; i < 20; ++i) Step(budget, machine, 15, 100, 200);
  const int64_t over = budget.steps_over_bound();
  CHECK(budget.mixed_steps() == 20);
  CHECK(over < 10);
  Step(budget, machine, 15, 100, 200, 3.0);  // the core was away
  CHECK(budget.mixed_steps() == 21);
  CHECK(budget.steps_over_bound() == over + 1);
  Step(budget, machine, 15, 0, 0, 10.0);  // no prefill, no bound
  CHECK(budget.mixed_steps() == 21);
  CHECK(budget.steps_over_bound() == over + 1);
}

TEST_CASE("beside decodes without knowledge, and without a bound, everything fits") {
  StepBudget budget{StepBudgetOptions{}};
  budget.Begin(7, 7);
  CHECK(budget.Fit(0, 5'000) == 5'000);
  for (int i = 0; i < 10; ++i) Step(budget, kMachines[0], 1, 0, i % 2 == 0 ? 0 : 300);
  budget.Begin(1, 1);
  CHECK(budget.Fit(0, 5'000) < 5'000);
  StepBudget unbound{StepBudgetOptions{.max_slowdown = 0}};
  for (int i = 0; i < 10; ++i) Step(unbound, kMachines[0], 1, 0, i % 2 == 0 ? 0 : 300);
  CHECK(unbound.Begin(1, 1) == 0);
  CHECK(unbound.Fit(0, 5'000) == 5'000);
  CHECK(unbound.Begin(0, 9) == 0);
  CHECK(unbound.Fit(0, 5'000) == 5'000);
  unbound.Learn({3, 4, 5}, 0);  // measures nothing, teaches nothing
  unbound.Learn({0, 0, 0}, 1000);
}

TEST_CASE("prefill alone ends within its time, and carries a little in any case") {
  for (const Machine& machine : kMachines) {
    StepBudgetOptions options;
    StepBudget budget(options);
    budget.Begin(0, 0);  // nothing is known yet
    CHECK(budget.Fit(0, 100'000) == options.min_alone_tokens);
    for (int i = 0; i < 20; ++i) Step(budget, machine, 0, 0, 300);
    budget.Arrived();
    for (const int32_t first : {0, 2'000, 20'000}) {
      budget.Begin(0, 0);
      const int32_t fit = budget.Fit(first, 100'000);
      CHECK(fit >= options.min_alone_tokens);
      if (fit == options.min_alone_tokens) continue;
      CHECK(budget.PrefillNs(first, fit) <= double(options.max_alone_ns));
      CHECK(budget.PrefillNs(first, fit + 1) > 0.99 * double(options.max_alone_ns));
    }
  }
}

TEST_CASE("prefill that is alone for long takes longer steps, until somebody comes") {
  const auto next_is_of = [](StepBudget& budget, double ns) {
    budget.Begin(0, 0);
    const int32_t fit = budget.Fit(0, 100'000);
    return budget.PrefillNs(0, fit) <= ns && budget.PrefillNs(0, fit + 1) > 0.99 * ns;
  };
  for (const Machine& machine : kMachines) {
    StepBudgetOptions options;
    options.min_alone_tokens = 1;
    StepBudget budget(options);
    for (int i = 0; i < 20; ++i) Step(budget, machine, 0, 0, 300);
    const auto quiet = double(options.max_quiet_ns), usual = double(options.max_alone_ns);
    CHECK(next_is_of(budget, quiet));
    // Whoever comes meanwhile waits for half of the usual time.
    const int32_t awaited = budget.FitAwaited(0, 100'000);
    CHECK(budget.PrefillNs(0, awaited) <= usual / 2);
    CHECK(budget.PrefillNs(0, awaited + 1) > 0.99 * usual / 2);
    CHECK(budget.FitAwaited(0, awaited) == awaited);
    Step(budget, machine, 4, 0, 0);  // decodes, but nobody came
    CHECK(next_is_of(budget, quiet));
    budget.Arrived();
    CHECK(next_is_of(budget, usual));
    Step(budget, machine, 0, 0, 300);
    CHECK(next_is_of(budget, 2 * usual));
    options.max_quiet_ns = 0;  // never longer than usual
    StepBudget even(options);
    for (int i = 0; i < 20; ++i) Step(even, machine, 0, 0, 300);
    CHECK(next_is_of(even, usual));
  }
}

TEST_CASE("a step always carries a little prefill, in all") {
  StepBudgetOptions options;
  options.min_step_ns = 0;
  options.max_slowdown = 1.0;
  StepBudget budget(options);
  for (int i = 0; i < 10; ++i) Step(budget, kMachines[3], 4, 0, i % 2 == 0 ? 0 : 30);
  budget.Begin(4, 4);
  CHECK(budget.Fit(900, 500) == options.min_prefill_tokens);
  budget.Take(900, 10);
  CHECK(budget.Fit(0, 500) == options.min_prefill_tokens - 10);
  const StepBudget::Share held = budget.Hold(0, options.min_prefill_tokens - 10);
  CHECK(budget.Fit(0, 500) == 0);
  budget.GiveBack(held);
  CHECK(budget.Fit(0, 500) == options.min_prefill_tokens - 10);
}

TEST_CASE(
    "whatever was measured, a fit is within what was wanted and its cost within what is left") {
  std::mt19937 random(7);
  const auto dice = [&](int64_t below) { return static_cast<int64_t>(random() % uint64_t(below)); };
  for (int round = 0; round < 300; ++round) {
    StepBudgetOptions options;
    options.max_slowdown = double(dice(40)) / 10;
    options.min_step_ns = dice(100'000'000);
    options.min_prefill_tokens = int32_t(dice(40));
    options.max_alone_ns = dice(200'000'000);
    options.max_quiet_ns = dice(400'000'000);
    options.min_alone_tokens = int32_t(dice(400));
    StepBudget budget(options);
    for (int step = 0; step < 60; ++step) {
      const auto decodes = int32_t(dice(70));
      StepShape shape{decodes, 0, 0};
      shape.bound_ns = budget.Begin(decodes, int32_t(dice(70)));
      for (int chunk = 0; chunk < 3; ++chunk) {
        const auto first = int32_t(dice(4'000)), wanted = int32_t(dice(600));
        const int32_t fit = budget.Fit(first, wanted);
        REQUIRE((fit >= 0 && fit <= wanted));
        budget.Take(first, fit);
        shape.prefill_tokens += fit;
        shape.prefill_pairs += PrefillPairs(first, fit);
      }
      budget.Learn(shape, dice(3) == 0 ? dice(5) : dice(int64_t{1} << dice(40)) - 100);
      REQUIRE(std::isfinite(budget.PrefillNs(4'000, 600)));
      REQUIRE(budget.DecodeNs(70) >= 0);
    }
  }
}

namespace {

/// Streams that decode on a machine of known speed while prompts arrive.
class Mixed final : public EventSink {
 public:
  explicit Mixed(const Machine& machine, EngineOptions options = {}, int32_t num_blocks = 4'000) {
    RunnerSpec spec;
    spec.groups = {{"full", 16, num_blocks, 0}};
    spec.vocab_size = 1'000;
    spec.max_model_len = 8'192;
    spec.max_batch_tokens = 256;
    spec.max_sequences = 64;
    spec.phased = machine.apart > 0;
    options.prefix_cache = false;
    auto owned = std::make_unique<FakeRunner>(spec, 1);
    owned->faults.during_step = [this, machine](const ForwardInput& input) {
      shape = StepShape();
      for (size_t s = 0; s + 1 < input.cu_seqlens.size(); ++s) {
        const int32_t rows = input.cu_seqlens[s + 1] - input.cu_seqlens[s];
        const bool decodes = rows == 1;
        shape.decodes += decodes;
        if (decodes) continue;
        shape.prefill_tokens += rows;
        shape.prefill_pairs += PrefillPairs(input.seq_lens[s] - rows, rows);
      }
      clock.now_ns += static_cast<int64_t>(real ? Really(machine, shape) : machine.Takes(shape));
    };
    engine = std::make_unique<Engine>(std::move(owned), options, &clock, this);
  }
  void Submit(RequestId id, int prompt, int max_tokens) {
    Request request;
    request.id = id;
    for (int i = 0; i < prompt; ++i)
      request.prompt_ids.push_back(static_cast<int32_t>((id * 31 + i) % 997));
    request.sampling.max_tokens = max_tokens;
    request.arrival_ns = clock.now_ns;
    REQUIRE(engine->Submit(std::move(request)).ok());
  }
  void Deliver(StepEvents events) override {
    ended += static_cast<int>(events.terminals.size());
    for (const TokenEvent& event : events.tokens) {
      auto& seen = first_token_ns[event.request];
      if (seen == 0) seen = clock.now_ns;
    }
  }

  /// As a machine is: rows are cheaper in a large batch, a small chunk reads its context for few
  /// rows, and no two steps take the same time.
  double Really(const Machine& machine, const StepShape& of) {
    const double rows = of.decodes + of.prefill_tokens;
    Machine now = machine;
    now.token *= 1 + 40 / (40 + rows);
    now.decode *= 1 + 40 / (40 + rows);
    now.pair *= 1 + 24 / (1.0 + of.prefill_tokens);
    return now.Takes(of) * std::uniform_real_distribution<double>(0.85, 1.2)(noise);
  }

  FakeClock clock;
  bool real = false;
  std::mt19937 noise{5};
  StepShape shape;  // of the last step
  int ended = 0;
  std::map<RequestId, int64_t> first_token_ns;
  std::unique_ptr<Engine> engine;
};

}  // namespace

TEST_CASE("streams go on while long prompts arrive, and the prompts get on") {
  const Machine& machine = kMachines[0];
  Mixed mixed(machine);
  for (RequestId id = 1; id <= 15; ++id) mixed.Submit(id, 32, 4'000);
  for (int i = 0; i < 100; ++i) mixed.engine->RunOnce();
  REQUIRE(mixed.shape.decodes == 15);
  const double quiet = machine.Takes(mixed.shape);
  std::vector<double> gaps;
  RequestId next = 100;
  mixed.Submit(next, 1'500, 1);
  int64_t prefilled = 0;
  const int64_t start = mixed.clock.now_ns;
  for (int i = 0; i < 600; ++i) {
    const int64_t before = mixed.clock.now_ns;
    mixed.engine->RunOnce();
    gaps.push_back(static_cast<double>(mixed.clock.now_ns - before));
    prefilled += mixed.shape.prefill_tokens;
    if (mixed.first_token_ns.count(next) != 0) mixed.Submit(++next, 1'500, 1);
  }
  std::ranges::sort(gaps);
  CHECK(gaps[gaps.size() * 99 / 100] < 3 * quiet);
  CHECK(gaps.back() < 14 * quiet);  // the very first steps, before anything was learned
  // At least half of the machine's time goes to prompts, if they want it.
  const double seconds = static_cast<double>(mixed.clock.now_ns - start) / 1e9;
  CHECK(static_cast<double>(prefilled) / seconds >
        0.5 * 1e9 / (machine.token + 750 * machine.pair));
}

TEST_CASE(
    "on a machine that is neither linear nor steady 999 of 1000 gaps are within three of the "
    "quiet") {
  // On the slow one the 16 tokens that every step may carry cost more than that.
  for (const Machine& machine : {kMachines[0], kMachines[1], kMachines[2]}) {
    CAPTURE(machine.step);
    Mixed mixed(machine);
    mixed.real = true;
    RequestId next = 100;
    for (int i = 0; i < 6; ++i) {  // large chunks, as nobody waits
      mixed.Submit(next++, 1'500, 1);
      while (mixed.engine->RunOnce()) {
      }
    }
    for (RequestId id = 1; id <= 15; ++id) mixed.Submit(id, 32, 4'000);
    std::vector<double> quiet, gaps;
    const auto gap = [&] {
      const int64_t before = mixed.clock.now_ns;
      mixed.engine->RunOnce();
      return static_cast<double>(mixed.clock.now_ns - before);
    };
    for (int i = 0; i < 300; ++i) {
      const double took = gap();
      if (mixed.shape.decodes == 15 && mixed.shape.prefill_tokens == 0) quiet.push_back(took);
    }
    REQUIRE(quiet.size() > 200);
    const int64_t start = mixed.clock.now_ns;
    int64_t prefilled = 0, asked = 0;
    while (gaps.size() < 3'000) {
      for (const auto& [length, every] : {std::pair(1'500, 40), std::pair(16, 20)}) {
        if (mixed.noise() % static_cast<uint32_t>(every) != 0) continue;
        mixed.Submit(next++, length, 1);
        asked += length;
      }
      gaps.push_back(gap());
      prefilled += mixed.shape.prefill_tokens;
    }
    std::ranges::sort(quiet);
    std::ranges::sort(gaps);
    const double bound = std::max(3 * quiet[quiet.size() / 2],
                                  1.2 * static_cast<double>(StepBudgetOptions().min_step_ns));
    CHECK(gaps[gaps.size() * 999 / 1000] < bound);
    // And the prompts are not starved for it: either most were read, or a good part of the machine
    // read them.
    const double seconds = static_cast<double>(mixed.clock.now_ns - start) / 1e9;
    const double could = seconds * 1e9 / (machine.token + 750 * machine.pair);
    CHECK(static_cast<double>(prefilled) >
          std::min(0.9 * static_cast<double>(asked), 0.25 * could));
  }
}

TEST_CASE(
    "a crowd whose every step carries prefill is served whole, and as fast as without a bound") {
  for (const bool real : {false, true}) {
    for (const Machine& machine : {kMachines[0], kMachines[1], kMachines[3]}) {
      CAPTURE(machine.step, real);
      struct Served {
        double tokens_per_second, last_first_token_s, longest_mixed_ns;
        int32_t most_at_once;
      };
      const auto serve = [&](EngineOptions options) {
        Mixed mixed(machine, options);
        mixed.real = real;
        // First somebody alone, as on any morning.
        for (RequestId id = 1; id <= 3; ++id) {
          mixed.Submit(id, 100, 30);
          while (mixed.engine->RunOnce()) {
          }
        }
        Served served{};
        RequestId next = 100;
        const int64_t start = mixed.clock.now_ns;
        for (int i = 0; i < 64; ++i) mixed.Submit(next++, 128, 128);
        while (mixed.ended < 3 + 300) {
          const int ended = mixed.ended;
          const int64_t began = mixed.clock.now_ns;
          mixed.engine->RunOnce();
          served.most_at_once = std::max(served.most_at_once, mixed.shape.decodes);
          if (mixed.shape.decodes > 0) {
            const auto took = static_cast<double>(mixed.clock.now_ns - began);
            served.longest_mixed_ns = std::max(served.longest_mixed_ns, took);
          }
          for (int i = ended; i < mixed.ended; ++i) mixed.Submit(next++, 128, 128);
        }
        int64_t last = 0;
        for (RequestId id = 100; id < 164; ++id) last = std::max(last, mixed.first_token_ns[id]);
        served.tokens_per_second =
            300 * 128 / (static_cast<double>(mixed.clock.now_ns - start) / 1e9);
        served.last_first_token_s = static_cast<double>(last - start) / 1e9;
        return served;
      };
      EngineOptions without;
      without.step_budget.max_slowdown = 0;
      const Served unbound = serve(without);
      const Served bound = serve({});
      CHECK(bound.most_at_once > 48);
      CHECK(bound.tokens_per_second > 0.95 * unbound.tokens_per_second);
      // It is let in at the pace of what its own decodes will take, not of the first one's, and no
      // faster.
      CHECK(bound.last_first_token_s < 1.45 * unbound.last_first_token_s);
      CHECK(bound.longest_mixed_ns < 3 * machine.Takes({64, 0, 0}) * (real ? 1.3 : 1));
    }
  }
}

TEST_CASE("streams do not slow down for who cannot come in for want of KV") {
  // Room for eight whole ones; a hundred wait.
  const Machine& machine = kMachines[0];
  Mixed mixed(machine, {}, 8 * 600 / 16);
  for (RequestId id = 1; id <= 100; ++id)
    mixed.Submit(id, 200, 350 + static_cast<int>(id * 37 % 100));
  int32_t most_at_once = 0;
  double longest = 0;
  for (int i = 0; mixed.ended < 60; ++i) {
    const int64_t before = mixed.clock.now_ns;
    mixed.engine->RunOnce();
    if (mixed.ended < 8 || mixed.shape.decodes < 4) continue;
    most_at_once = std::max(most_at_once, mixed.shape.decodes);
    longest = std::max(longest, static_cast<double>(mixed.clock.now_ns - before));
  }
  CHECK(most_at_once >= 6);
  CHECK(most_at_once <= 20);
  CHECK(longest < 3 * machine.Takes({most_at_once, 0, 0}));
}

TEST_CASE("a short prompt does not wait for long ones, which get on all the same") {
  for (const Machine& machine : {kMachines[0], kTiles}) {
    for (const int streams : {0, 8}) {
      for (const int long_ones : {1, 2, 5}) {
        CAPTURE(machine.apart, streams, long_ones);
        Mixed mixed(machine);
        for (int i = 1; i <= streams; ++i) mixed.Submit(static_cast<RequestId>(i), 32, 7'000);
        for (int i = 0; i < 60; ++i) mixed.engine->RunOnce();
        const RequestId last_long = 99 + static_cast<RequestId>(long_ones);
        for (RequestId id = 100; id <= last_long; ++id) mixed.Submit(id, 6'000, 1);
        for (int i = 0; i < 3; ++i) mixed.engine->RunOnce();
        const int64_t asked = mixed.clock.now_ns;
        RequestId next = 200;
        mixed.Submit(next, 60, 1);
        while (mixed.first_token_ns.count(next) == 0) mixed.engine->RunOnce();
        CHECK(mixed.first_token_ns.count(100) == 0);
        // At twice the time of its own tokens beside what decodes, and a step's grain.
        CHECK(mixed.clock.now_ns - asked < 600'000'000);
        // Short ones without end do not keep the long ones out.
        int steps = 0;
        while (mixed.first_token_ns.count(last_long) == 0) {
          for (int i = 0; i < 4; ++i) mixed.Submit(++next, 60, 1);
          mixed.engine->RunOnce();
          REQUIRE(++steps < 2'000 * long_ones);
        }
      }
    }
  }
}

TEST_CASE("of equal prompts the first one ends as if it were alone, and none later for it") {
  const Machine& machine = kMachines[0];
  const auto first_tokens = [&](int prompts) {
    Mixed mixed(machine);
    for (RequestId id = 1; id <= 8; ++id) mixed.Submit(id, 32, 4'000);
    for (int i = 0; i < 100; ++i) mixed.engine->RunOnce();
    const int64_t asked = mixed.clock.now_ns;
    for (int i = 0; i < prompts; ++i) mixed.Submit(100 + static_cast<RequestId>(i), 1'500, 1);
    std::vector<double> seconds;
    for (int i = 0; i < prompts; ++i) {
      const RequestId id = 100 + static_cast<RequestId>(i);
      while (mixed.first_token_ns.count(id) == 0) mixed.engine->RunOnce();
      seconds.push_back(static_cast<double>(mixed.first_token_ns[id] - asked) / 1e9);
    }
    return seconds;
  };
  const double alone = first_tokens(1)[0];
  const std::vector<double> four = first_tokens(4);
  for (int i = 0; i < 4; ++i) CHECK(four[i] < 1.1 * (i + 1) * alone);
}

TEST_CASE("a more urgent prompt is not held up by an older one") {
  Mixed mixed(kMachines[0]);
  mixed.Submit(1, 4'000, 1);
  for (int i = 0; i < 3; ++i) mixed.engine->RunOnce();
  Request urgent;
  urgent.id = 2;
  urgent.prompt_ids.assign(2'000, 5);
  urgent.sampling.max_tokens = 1;
  urgent.priority = -1;
  urgent.arrival_ns = mixed.clock.now_ns;
  REQUIRE(mixed.engine->Submit(std::move(urgent)).ok());
  while (mixed.first_token_ns.count(2) == 0) mixed.engine->RunOnce();
  CHECK(mixed.first_token_ns.count(1) == 0);
}

}  // namespace modu::engine
