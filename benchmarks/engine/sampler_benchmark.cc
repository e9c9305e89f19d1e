// Times the sampler on one row of logits, one thread, beside its floor: reading the row once.
//   sampler_benchmark [VOCAB=49152] [REPEATS=300]
// Probabilities fall with rank^1.8, roughly as a model's do (90 % of the mass are a dozen tokens);
// each repeat has rows of its own, which the sampler may change.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"
#include "engine/sampling/sampler.h"

namespace modu::engine {
namespace {

struct Case {
  const char* name;
  SamplingParams params;
};

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {"greedy", {.temperature = 0}},
      {"temperature 1", {}},
      {"top_k 40", {.top_k = 40}},
      {"top_p 0.9", {.top_p = 0.9f}},
      {"top_p 0.999", {.top_p = 0.999f}},
      {"min_p 0.05", {.min_p = 0.05f}},
      {"top_k 40, top_p 0.9, temperature 0.7", {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f}},
      {"penalties over 512 tokens",
       {.repetition_penalty = 1.1f, .presence_penalty = 0.2f, .frequency_penalty = 0.2f}},
      {"greedy, 20 logprobs", {.temperature = 0, .top_logprobs = 20}}};
  for (Case& c : cases) c.params.seed = 1;
  return cases;
}

int Main(int vocab, int repeats) {
  constexpr int kRows = 16, kHistory = 512;
  std::mt19937 random(1);
  const auto size = static_cast<size_t>(vocab);
  std::vector<float> rows(kRows * size), row(size);
  for (auto begin = rows.begin(); begin != rows.end(); begin += vocab) {
    for (int rank = 0; rank < vocab; ++rank) {
      begin[rank] = -1.8f * std::log(static_cast<float>(rank + 1));
    }
    std::shuffle(begin, begin + vocab, random);
  }
  std::vector<int32_t> history;
  for (int i = 0; i < kHistory; ++i) history.push_back(static_cast<int32_t>(random() % size));
  // The row is copied first, outside of the time, so that all cases find it in the same caches.
  const auto best_of = [&](const auto& body) {
    double best = 1e30;
    for (int i = 0; i < repeats; ++i) {
      const auto from =
          rows.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(i % kRows) * size);
      std::copy_n(from, size, row.begin());
      const auto start = std::chrono::steady_clock::now();
      body(i);
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      best = std::min(best, took.count());
    }
    return best;
  };
  const double floor = best_of([&](int) {
    benchmarks::ReadOnce(reinterpret_cast<const std::byte*>(row.data()), size * sizeof(float));
  });
  std::printf(
      "%d logits; reading them once takes %.1f us\n\n| sampling | us a row | share of the floor |\n"
      "|---|--:|--:|\n",
      vocab, floor);
  for (const Case& c : Cases()) {
    Sampler sampler(vocab, {2});
    const SamplerSlot slot = sampler.StartSequence(c.params, history, kHistory / 2);
    const double took = best_of([&](int i) {
      (void)sampler.Sample({.slot = slot, .position = i, .top_logprobs = c.params.top_logprobs},
                           row.data());
    });
    std::printf("| %s | %.1f | %.0f %% |\n", c.name, took, 100 * floor / took);
  }
  return 0;
}

}  // namespace
}  // namespace modu::engine

int main(int argc, char** argv) {
  const int vocab = argc > 1 ? std::atoi(argv[1]) : 49152;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 300;
  if (vocab < 64 || repeats < 1) {
    std::fprintf(stderr, "usage: see the head of sampler_benchmark.cc\n");
    return 2;
  }
  return modu::engine::Main(vocab, repeats);
}
