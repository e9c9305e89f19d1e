// The x86 backend on the default model, in each numerics mode, against all recorded answers and the
// README's bounds for that arithmetic.
#include <string>

#include "engine/runner/load_model.h"
#include "tests/catch.h"
#include "tests/default_model/golden.h"

namespace modu::engine {
namespace {

using kernels::Numerics;

LoadedModel Load(Numerics numerics, int threads) {
  kernels::DeviceOptions device;
  device.numerics = numerics;
  device.num_threads = threads;
  RunnerOptions options;
  options.max_batch_tokens = 256;
  options.kv_tokens = 8192;
  options.kv_dtype = DefaultKvDType(numerics);
  auto model = LoadModel(tests::DefaultModelPath().string(), *kernels::OpenCpuDevice(device),
                         options, nullptr);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

/// What the README's table allows: honest errors of the arithmetic, mean / p99 / max, and the
/// largest gap at which the argmax may change.
struct Bounds {
  double mean, p99, max, gap;
};

tests::ErrorStatistics ScoreAll(ModelRunner* runner, const nlohmann::json& golden) {
  tests::ErrorStatistics statistics;
  for (const auto& generation : golden.at("generations")) {
    statistics.Add(tests::ScoreGeneration(runner, generation, 256));
  }
  REQUIRE(statistics.steps == 24 * 64);
  return statistics;
}

void CheckBounds(const tests::ErrorStatistics& statistics, const Bounds& bounds) {
  WARN("top-5 logprob error mean " << statistics.mean() << ", p99 " << statistics.quantile(0.99)
                                   << ", max " << statistics.quantile(1.0) << "; argmax changed "
                                   << statistics.changed << " of " << statistics.steps
                                   << ", at a gap of at most " << statistics.largest_changed_gap);
  CHECK(statistics.mean() <= bounds.mean);
  CHECK(statistics.quantile(0.99) <= bounds.p99);
  CHECK(statistics.quantile(1.0) <= bounds.max);
  CHECK(statistics.largest_changed_gap <= bounds.gap);
}

void CheckScores(ModelRunner* runner, const nlohmann::json& golden, double bound) {
  for (const auto& score : golden.at("scores")) {
    const auto ids = score.at("ids").get<std::vector<int32_t>>();
    const auto rows = tests::ScoreSequence(runner, ids, 1, 1, 256);
    for (size_t i = 1; i < ids.size(); ++i) {
      INFO(score.at("id").get<std::string>() << " place " << i);
      CHECK(std::fabs(rows[i - 1].logprob - score.at("logprobs")[i].get<double>()) < bound);
    }
  }
}

void CheckPerplexity(ModelRunner* runner, const nlohmann::json& golden, double bound) {
  for (const auto& text : golden.at("perplexity")) {
    const double nll = tests::NllPerToken(runner, text, 256);
    WARN("nll a token " << nll << ", float32 " << text.at("nll_per_token").get<double>());
    CHECK(std::fabs(nll - text.at("nll_per_token").get<double>()) < bound);
  }
}

/// Greedy tokens are the recorded ones up to the first step whose gap is below `gap`.
void CheckGreedy(ModelRunner* runner, const nlohmann::json& golden, double gap) {
  const int32_t block_size = runner->spec().groups[0].block_size;
  for (const auto& generation : golden.at("generations")) {
    const auto prompt = generation.at("prompt_ids").get<std::vector<int32_t>>();
    if (prompt.size() > 256) continue;  // one step
    INFO(generation.at("id").get<std::string>());
    SamplingParams params;
    params.temperature = 0;
    const SamplerSlot slot = runner->StartSequence(params, prompt, 0);
    tests::SequenceDriver sequence(runner, 0,
                                   static_cast<int32_t>(prompt.size() + 64) / block_size + 1);
    std::vector<int32_t> ids = prompt;
    const auto& output = generation.at("output_ids");
    for (size_t i = 0; i < output.size() && generation.at("gap")[i].get<double>() >= gap; ++i) {
      SampleRow row = tests::GreedyRow(static_cast<int32_t>(ids.size()) - 1, slot, -1);
      row.position = static_cast<int32_t>(i);
      ids = {sequence.Step(ids, {row}).rows.at(0).token_id};
      INFO("step " << i);
      REQUIRE(ids[0] == output[i].get<int32_t>());
    }
    runner->EndSequence(slot);
  }
}

TEST_CASE("exact: the default model's float32 answers") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kExact, 2);
  WARN(model.device);
  CheckBounds(ScoreAll(model.runner.get(), golden), {1e-4, 1e-3, 1e-3, 1e-3});
  CheckScores(model.runner.get(), golden, 1e-3);
  CheckPerplexity(model.runner.get(), golden, 1e-4);
  CheckGreedy(model.runner.get(), golden, 1e-3);
}

TEST_CASE("bf16: within the arithmetic's honest error") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kBf16, 2);
  CheckBounds(ScoreAll(model.runner.get(), golden), {0.03, 0.15, 0.4, 0.1});
  CheckScores(model.runner.get(), golden, 0.4);
  CheckPerplexity(model.runner.get(), golden, 0.01);
  CheckGreedy(model.runner.get(), golden, 0.1);
}

TEST_CASE("int8: within the arithmetic's honest error") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kInt8, 2);
  CheckBounds(ScoreAll(model.runner.get(), golden), {0.1, 0.5, 1.3, 0.6});
  CheckScores(model.runner.get(), golden, 1.3);
  CheckPerplexity(model.runner.get(), golden, 0.03);
  CheckGreedy(model.runner.get(), golden, 0.6);
}

}  // namespace
}  // namespace modu::engine
