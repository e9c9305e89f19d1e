// What each numerics mode costs in quality: perplexity of recorded texts and the errors of recorded
// top-5 log probabilities, against the float32 answers of shared/data/generation (see its README),
// and the time of it. Teacher-forced, without HTTP, scheduler or text; the same bits as the
// server's.
//   quality_benchmark MODEL ANSWERS.json [exact|bf16|int8|phased|all [isa [prompts]]]
// With `prompts` a second table has the errors of every prompt.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/runner/load_model.h"
#include "tests/default_model/recorded_answers.h"

namespace modu::engine {
namespace {

using Json = nlohmann::json;

constexpr size_t kChunk = 256;  // tokens of a step, as the server's default

struct Mode {
  const char* name;
  kernels::Numerics numerics;
  kernels::DType kv;
  bool as_answers = false;  // all but a text's first tokens are fed as generated ones
};

constexpr Mode kModes[] = {
    {"exact, f32 KV", kernels::Numerics::kExact, kernels::DType::kF32},
    {"exact, bf16 KV", kernels::Numerics::kExact, kernels::DType::kBF16},
    {"exact, int8 KV", kernels::Numerics::kExact, kernels::DType::kI8},
    {"exact, fp8 KV", kernels::Numerics::kExact, kernels::DType::kF8E4M3},
    {"bf16, f32 KV", kernels::Numerics::kBf16, kernels::DType::kF32},
    {"bf16, bf16 KV", kernels::Numerics::kBf16, kernels::DType::kBF16},
    {"bf16, int8 KV", kernels::Numerics::kBf16, kernels::DType::kI8},
    {"bf16, fp8 KV", kernels::Numerics::kBf16, kernels::DType::kF8E4M3},
    {"int8, f32 KV", kernels::Numerics::kInt8, kernels::DType::kF32},
    {"int8, bf16 KV", kernels::Numerics::kInt8, kernels::DType::kBF16},
    {"int8, int8 KV", kernels::Numerics::kInt8, kernels::DType::kI8},
    {"int8, fp8 KV", kernels::Numerics::kInt8, kernels::DType::kF8E4M3},
    {"phased, bf16 KV, texts as prompts", kernels::Numerics::kPhased, kernels::DType::kBF16},
    {"phased, bf16 KV, texts as answers", kernels::Numerics::kPhased, kernels::DType::kBF16, true},
    {"phased, int8 KV, texts as prompts", kernels::Numerics::kPhased, kernels::DType::kI8},
    {"phased, int8 KV, texts as answers", kernels::Numerics::kPhased, kernels::DType::kI8, true},
};

/// Everything measured of one mode.
struct Quality {
  std::string device;
  std::vector<double> nll;  // a recorded text each
  std::vector<tests::ErrorStatistics> prompts;
  double seconds = 0;
};

Quality Measure(const char* path, const Json& answers, const Mode& mode, const std::string& isa) {
  kernels::DeviceOptions device;
  device.numerics = mode.numerics;
  device.isa = isa;
  RunnerOptions options;
  options.max_batch_tokens = kChunk;
  options.kv_tokens = 4096;
  options.max_model_len = 4096;
  options.kv_dtype = mode.kv;
  auto opened = kernels::OpenCpuDevice(device);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", std::string(opened.status().message()).c_str());
    std::exit(1);
  }
  auto model = LoadModel(path, *std::move(opened), options, nullptr);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", std::string(model.status().message()).c_str());
    std::exit(1);
  }
  Quality quality;
  quality.device = model->device;
  ModelRunner* const runner = model->runner.get();
  const auto start = std::chrono::steady_clock::now();
  for (const Json& text : answers.at("perplexity")) {
    quality.nll.push_back(mode.as_answers ? tests::NllAsAnswer(runner, text, kChunk)
                                          : tests::NllPerToken(runner, text, kChunk));
  }
  for (const Json& generation : answers.at("generations")) {
    quality.prompts.push_back(tests::ScoreGeneration(runner, generation, kChunk));
  }
  quality.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return quality;
}

void PrintErrors(const tests::ErrorStatistics& statistics) {
  std::printf(" %.2g / %.2g / %.3g | %d of %d | %.3f |", statistics.mean(),
              statistics.quantile(0.99), statistics.quantile(1.0), statistics.changed,
              statistics.steps, statistics.largest_changed_gap);
}

void PrintMode(const Mode& mode, const Quality& quality, const Json& answers) {
  std::printf("| %s |", mode.name);
  for (size_t i = 0; i < quality.nll.size(); ++i) {
    const double recorded = answers.at("perplexity")[i].at("nll_per_token").get<double>();
    std::printf(" %.4f (%+.3f %%) |", std::exp(quality.nll[i]),
                100 * std::expm1(quality.nll[i] - recorded));
  }
  tests::ErrorStatistics all;
  for (const tests::ErrorStatistics& prompt : quality.prompts) all.Add(prompt);
  PrintErrors(all);
  std::printf(" %.1f |\n", quality.seconds);
  std::fflush(stdout);
}

void PrintPrompts(const std::vector<Mode>& modes, const std::vector<Quality>& qualities,
                  const Json& answers) {
  for (size_t m = 0; m < modes.size(); ++m) {
    std::printf("\n%s\n\n| prompt | tokens | mean / p99 / max | argmax changed | largest gap |\n",
                modes[m].name);
    std::printf("|---|--:|---|---|--:|\n");
    for (size_t p = 0; p < answers.at("generations").size(); ++p) {
      const Json& generation = answers.at("generations")[p];
      std::printf("| %s | %zu |", generation.at("id").get<std::string>().c_str(),
                  generation.at("prompt_ids").size());
      PrintErrors(qualities[m].prompts[p]);
      std::printf("\n");
    }
  }
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: quality_benchmark MODEL ANSWERS.json [exact|bf16|int8|phased|all [isa "
                 "[prompts]]]\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const Json answers = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (answers.is_discarded() || !answers.contains("perplexity")) {
    std::fprintf(stderr, "the second argument is no file of recorded answers\n");
    return 1;
  }
  std::printf("| mode |");
  for (const Json& text : answers.at("perplexity")) {
    std::printf(" %s (float32 %.4f) |", text.at("id").get<std::string>().c_str(),
                text.at("perplexity").get<double>());
  }
  std::printf(" top-5 logprob error, mean / p99 / max | argmax changed | largest gap | s |\n|---|");
  for (size_t i = 0; i < answers.at("perplexity").size(); ++i) std::printf("---|");
  std::printf("---|---|--:|--:|\n");
  const std::string wanted = argc > 3 ? argv[3] : "all";
  std::vector<Mode> modes;
  std::vector<Quality> qualities;
  for (const Mode& mode : kModes) {
    if (wanted != "all" && std::string(mode.name).rfind(wanted, 0) != 0) continue;
    modes.push_back(mode);
    qualities.push_back(Measure(argv[1], answers, mode, argc > 4 ? argv[4] : ""));
    PrintMode(mode, qualities.back(), answers);
  }
  if (argc > 5) PrintPrompts(modes, qualities, answers);
  if (!qualities.empty()) std::printf("\n%s\n", qualities.back().device.c_str());
  return 0;
}

}  // namespace
}  // namespace modu::engine

int main(int argc, char** argv) { return modu::engine::Main(argc, argv); }
