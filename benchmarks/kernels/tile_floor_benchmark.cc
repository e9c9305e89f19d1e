// What AMX's tile products take on this machine over some seconds, on all of its cores at once (a
// thread each, not held there), and the floor that they set under a prompt of SmolLM2-135M. In a
// virtual machine a core may be shared with another's load, beside which a product waits for its
// loads too: the quantiles show how often.
//   tile_floor_benchmark [SECONDS] [TOKENS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"
#include "kernels/cpu/cores.h"
#include "kernels/cpu/isa.h"

namespace modu::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;

/// Products of tiles of 16 x 16 x 32 in the layers of the model and in its causal attention: for
/// scores and for values 64 deep, of all keys up to a row's own.
double ProductsOf(int tokens) {
  constexpr double kTile = 16 * 16 * 32, kLayers = 30, kHeads = 9, kHeadDim = 64;
  constexpr double kWeights = 576.0 * (960 + 576 + 2 * 1536) + 1536.0 * 576;
  const double pairs = 0.5 * tokens * (tokens + 1.0);
  return kLayers * (tokens * kWeights + pairs * kHeads * 2 * kHeadDim) / kTile;
}

std::vector<TileTimes> Sample(double seconds) {
  std::vector<TileTimes> samples;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    samples.push_back(TimeTiles());
  } while (Clock::now() < end);
  return samples;
}

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

int Main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 1500;
  if (argc > 3 || seconds <= 0 || tokens < 1) {
    std::fprintf(stderr, "usage: tile_floor_benchmark [SECONDS] [TOKENS]\n");
    return 2;
  }
  if (kernels::cpu::DetectIsa() < kernels::cpu::Isa::kAmx) {
    std::fprintf(stderr, "this machine has no AMX\n");
    return 1;
  }
  const int cores = kernels::cpu::AvailableCores();
  std::vector<std::vector<TileTimes>> samples(static_cast<size_t>(cores));
  std::vector<std::thread> threads;
  for (auto& mine : samples) threads.emplace_back([&mine, seconds] { mine = Sample(seconds); });
  for (std::thread& thread : threads) thread.join();
  std::vector<double> alone, loaded;
  for (const auto& mine : samples) {
    for (const TileTimes& times : mine) {
      alone.push_back(times.products);
      loaded.push_back(times.with_loads);
    }
  }
  std::printf("| %d threads, ns of four tdpbf16ps | 10 %% | 50 %% | 90 %% |\n|---|--:|--:|--:|\n",
              cores);
  const auto print = [](const char* name, const std::vector<double>& values, double factor) {
    std::printf("| %s | %.1f | %.1f | %.1f |\n", name, factor * Quantile(values, 0.1),
                factor * Quantile(values, 0.5), factor * Quantile(values, 0.9));
  };
  print("on registers", alone, 1);
  print("with a load each", loaded, 1);
  const double ms = ProductsOf(tokens) / 4 / cores / 1e6;
  std::printf("| a prompt of %d: %.1f M products, ms | | | |\n", tokens, ProductsOf(tokens) / 1e6);
  print("on registers", alone, ms);
  print("with a load each", loaded, ms);
  return 0;
}

}  // namespace
}  // namespace modu::benchmarks

int main(int argc, char** argv) { return modu::benchmarks::Main(argc, argv); }
