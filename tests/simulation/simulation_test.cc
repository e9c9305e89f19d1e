#include "tests/simulation/simulation.h"

#include <cstdlib>

#include "tests/catch.h"

namespace modu::engine {
namespace {

// MODU_SIMULATION_SEED=N replays one seed.
TEST_CASE("Many small worlds hold every invariant, and the same seed gives the same log") {
  const char* wanted = std::getenv("MODU_SIMULATION_SEED");
  const uint64_t first = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 1;
  const uint64_t last = wanted != nullptr ? first : 60;
  SimulationResult sum;
  for (uint64_t seed = first; seed <= last; ++seed) {
    INFO("MODU_SIMULATION_SEED=" << seed);
    const SimulationResult result = Simulate(seed, 200);
    REQUIRE(result.failure == "");
    if (seed % 4 == 0) REQUIRE(Simulate(seed, 200).log_hash == result.log_hash);
    sum.done += result.done;
    sum.cancelled += result.cancelled;
    sum.failed += result.failed;
    sum.expired += result.expired;
    sum.rejected += result.rejected;
    sum.preemptions += result.preemptions;
    sum.prefix_hit_tokens += result.prefix_hit_tokens;
    sum.draft_tokens += result.draft_tokens;
    sum.accepted_draft_tokens += result.accepted_draft_tokens;
    sum.steps_cut_short += result.steps_cut_short;
  }
  if (wanted != nullptr) return;
  // The weather is bad enough to mean something.
  CHECK(sum.done > 1000);
  CHECK(sum.cancelled > 100);
  CHECK(sum.failed > 100);
  CHECK(sum.expired > 100);
  CHECK(sum.rejected > 100);
  CHECK(sum.preemptions > 100);
  CHECK(sum.prefix_hit_tokens > 1000);
  CHECK(sum.accepted_draft_tokens > 100);
  CHECK(sum.steps_cut_short > 10);
  CHECK(sum.draft_tokens - sum.accepted_draft_tokens > 100);
}

TEST_CASE("Worlds that once broke an invariant") {
  // A prompt of one token, scored with max_tokens 0 and preempted in flight, was scored twice.
  CHECK(Simulate(802, 500).failure == "");
}

}  // namespace
}  // namespace modu::engine
