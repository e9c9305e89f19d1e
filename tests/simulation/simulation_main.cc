// Runs seeded worlds until so many requests have been simulated; prints the first seed that fails
// and how to replay it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/simulation/simulation.h"

int main(int argc, char** argv) {
  long long requests = 100000;
  unsigned long long seed = 1;
  bool one = false;
  int per_world = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--requests") == 0) requests = std::atoll(argv[i + 1]);
    if (std::strcmp(argv[i], "--per-world") == 0) per_world = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--seed") == 0) {
      seed = std::strtoull(argv[i + 1], nullptr, 10);
      one = true;
    }
  }
  modu::engine::SimulationResult sum;
  while (sum.received < requests) {
    // Worlds of several sizes; a replay needs the seed alone.
    const int size = per_world > 0 ? per_world : seed % 10 == 0 ? 3000 : seed % 3 == 0 ? 50 : 500;
    const auto result = modu::engine::Simulate(seed, size);
    if (!result.failure.empty()) {
      std::printf("seed %llu: %s\nreplay: modu_simulation --seed %llu\n", seed,
                  result.failure.c_str(), seed);
      return 1;
    }
    sum.received += result.received;
    sum.rejected += result.rejected;
    sum.done += result.done;
    sum.cancelled += result.cancelled;
    sum.failed += result.failed;
    sum.expired += result.expired;
    sum.turns += result.turns;
    sum.tokens += result.tokens;
    sum.preemptions += result.preemptions;
    sum.prefix_hit_tokens += result.prefix_hit_tokens;
    sum.log_hash ^= result.log_hash;
    if (one) break;
    ++seed;
  }
  std::printf(
      "received %lld = rejected %lld + done %lld + cancelled %lld + failed %lld + expired %lld\n"
      "turns %lld, tokens %lld, preemptions %lld, prefix hits %lld tokens, log %016llx\n",
      static_cast<long long>(sum.received), static_cast<long long>(sum.rejected),
      static_cast<long long>(sum.done), static_cast<long long>(sum.cancelled),
      static_cast<long long>(sum.failed), static_cast<long long>(sum.expired),
      static_cast<long long>(sum.turns), static_cast<long long>(sum.tokens),
      static_cast<long long>(sum.preemptions), static_cast<long long>(sum.prefix_hit_tokens),
      static_cast<unsigned long long>(sum.log_hash));
  return 0;
}
