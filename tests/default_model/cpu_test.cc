// The x86 backend on the default model, in each numerics mode, against all recorded answers and the
// README's bounds for that arithmetic.
#include <optional>
#include <string>

#include "engine/runner/load_model.h"
#include "tests/catch.h"
#include "tests/default_model/golden.h"

namespace modu::engine {
namespace {

using kernels::Numerics;

/// kv_dtype: none: as served.
LoadedModel Load(Numerics numerics, std::optional<kernels::DType> kv_dtype) {
  kernels::DeviceOptions device;
  device.numerics = numerics;
  device.num_threads = 2;
  RunnerOptions options;
  options.max_batch_tokens = 256;
  options.kv_tokens = 8192;
  options.kv_dtype = kv_dtype;
  auto model = LoadModel(tests::DefaultModelPath().string(), *kernels::OpenCpuDevice(device),
                         options, nullptr);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

/// Honest errors of an arithmetic, mean / p99 / max, and the largest gap at which the argmax may
/// change. The README's rows for bf16 and int8 products keep K and V in float32 and were simulated
/// over 13 prompts; with float32 KV all 24 are within them. A bf16 KV, as the modes are served, is
/// a row of its own there (0.0087 / 0.049 / 0.12), whose errors come on top: where that shows, the
/// bounds below are wider, with what was measured beside them.
struct Bounds {
  double mean, p99, max, gap;
};
constexpr Bounds kReadmeBf16 = {0.02, 0.1, 0.19, 0.068};
constexpr Bounds kReadmeInt8 = {0.09, 0.44, 0.93, 0.399};
constexpr Bounds kServedBf16 = {0.03, 0.15, 0.35, 0.08};  // 0.021 / 0.11 / 0.312 / 0.068
/// On AMX, whose products add in another order: the maximum, one value of 7,680, is another
/// (0.0192 / 0.091 / 0.212; 0.205 when SiLU divided, which is the same to 1e-5). As served, queries
/// and probabilities are bf16 there as well (0.0224 / 0.111 / 0.238; 0.356 so).
constexpr Bounds kTilesBf16 = {0.02, 0.1, 0.22, 0.068};
constexpr Bounds kServedTilesBf16 = {0.03, 0.15, 0.37, 0.08};
/// Dot products of AVX512-BF16 add in a third order and flush denormals: the mean is the same, the
/// few largest values are others (0.0198 / 0.1034 / 0.238; as served 0.0225 / 0.118 / 0.233).
constexpr Bounds kDotsBf16 = {0.02, 0.105, 0.25, 0.068};
/// int8 is served with KV in int8, whose own error is about three times bf16's: at levels avx2,
/// avx512 and amx 0.075 / 0.37 / 0.852 / 0.291, avx512bf16, whose queries are rounded
/// otherwise, 0.079 / 0.39 / 0.908 / 0.382. The maximum is one value of 7,680: activations of 127
/// steps had 0.945 at levels avx2 and avx512.
constexpr Bounds kServedInt8Codes = {0.09, 0.44, 1.0, 0.399};

bool IsAt(const LoadedModel& model, const char* level) {
  return model.device.find(std::string("cpu ") + level + ",") != std::string::npos;
}

/// Perplexity within 0.5% of float32, as negative log likelihood a token.
constexpr double kHalfPercent = 0.004987;

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
  double worst = 0, there = 0;
  for (const auto& score : golden.at("scores")) {
    const auto ids = score.at("ids").get<std::vector<int32_t>>();
    const auto rows = tests::ScoreSequence(runner, ids, 1, 1, 256);
    for (size_t i = 1; i < ids.size(); ++i) {
      INFO(score.at("id").get<std::string>() << " place " << i);
      const double expected = score.at("logprobs")[i].get<double>();
      const double error = std::fabs(rows[i - 1].logprob - expected);
      CHECK(error < bound);
      if (error > worst) worst = error, there = expected;
    }
  }
  WARN("worst score error " << worst << ", of a token at " << there);
}

using TextNll = double (*)(ModelRunner* runner, const nlohmann::json& text);
double AsPrompt(ModelRunner* runner, const nlohmann::json& text) {
  return tests::NllPerToken(runner, text, 256);
}
double AsAnswer(ModelRunner* runner, const nlohmann::json& text) {
  return tests::NllAsAnswer(runner, text, 256);
}

void CheckPerplexity(ModelRunner* runner, const nlohmann::json& golden, double bound,
                     TextNll nll_of = AsPrompt) {
  for (const auto& text : golden.at("perplexity")) {
    const double nll = nll_of(runner, text);
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
  LoadedModel model = Load(Numerics::kExact, kernels::DType::kF32);
  WARN(model.device);
  CheckBounds(ScoreAll(model.runner.get(), golden), {1e-4, 1e-3, 1e-3, 1e-3});
  CheckScores(model.runner.get(), golden, 1e-3);
  CheckPerplexity(model.runner.get(), golden, 1e-4);
  CheckGreedy(model.runner.get(), golden, 1e-3);
}

TEST_CASE("bf16 and int8 products: within the arithmetic's honest error") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  {
    LoadedModel model = Load(Numerics::kBf16, kernels::DType::kF32);
    CheckBounds(ScoreAll(model.runner.get(), golden), IsAt(model, "amx")          ? kTilesBf16
                                                      : IsAt(model, "avx512bf16") ? kDotsBf16
                                                                                  : kReadmeBf16);
  }
  LoadedModel model = Load(Numerics::kInt8, kernels::DType::kF32);
  CheckBounds(ScoreAll(model.runner.get(), golden), kReadmeInt8);
}

/// All that is recorded.
void CheckServed(ModelRunner* runner, const nlohmann::json& golden, const Bounds& bounds,
                 double worst_score) {
  CheckBounds(ScoreAll(runner, golden), bounds);
  CheckScores(runner, golden, worst_score);
  CheckPerplexity(runner, golden, kHalfPercent);
  CheckGreedy(runner, golden, bounds.gap);
}

TEST_CASE("bf16 as served: within the errors of its products and of its KV") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kBf16, std::nullopt);
  const Bounds& bounds = IsAt(model, "amx") ? kServedTilesBf16 : kServedBf16;
  CheckServed(model.runner.get(), golden, bounds, bounds.max);
}

/// One token's score, of a text's, is off by 1.065 where attention over KV in bf16 rounds queries
/// and probabilities too (levels avx512bf16 and amx; by 0.71 at the others).
double WorstInt8Score(const LoadedModel& model) {
  return IsAt(model, "avx512bf16") || IsAt(model, "amx") ? 1.1 : kReadmeInt8.max;
}

TEST_CASE("int8 as served: within the errors of its products and of its KV") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kInt8, std::nullopt);
  const Bounds& bounds = IsAt(model, "avx512bf16") ? kReadmeInt8 : kServedInt8Codes;
  CheckServed(model.runner.get(), golden, bounds, bounds.max);
}

TEST_CASE("int8 with KV in bf16: within the README's bounds for the products, but for one score") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kInt8, kernels::DType::kBF16);
  CheckServed(model.runner.get(), golden, kReadmeInt8, WorstInt8Score(model));
}

TEST_CASE("phased as served: prompts as in bf16, answers as in int8") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  LoadedModel model = Load(Numerics::kPhased, std::nullopt);
  CHECK(model.runner->spec().phased);
  CheckServed(model.runner.get(), golden, kReadmeInt8, kReadmeInt8.max);
  CheckPerplexity(model.runner.get(), golden, kHalfPercent, AsAnswer);
}

/// What codes cost alone: 0.023 / 0.13 / 0.359 of int8 and 0.104 / 0.58 / 2.66 of FP8 (3 bits of
/// mantissa) at level avx2; their perplexity is off by 0.2 and 0.4 %.
TEST_CASE("exact with KV in codes: what they cost") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  {
    LoadedModel model = Load(Numerics::kExact, kernels::DType::kI8);
    CheckBounds(ScoreAll(model.runner.get(), golden), {0.03, 0.2, 0.5, 0.1});
    CheckScores(model.runner.get(), golden, 0.5);
    CheckPerplexity(model.runner.get(), golden, kHalfPercent);
  }
  LoadedModel model = Load(Numerics::kExact, kernels::DType::kF8E4M3);
  CheckBounds(ScoreAll(model.runner.get(), golden), {0.15, 0.8, 3.5, 0.6});
  CheckPerplexity(model.runner.get(), golden, 2 * kHalfPercent);
}

}  // namespace
}  // namespace modu::engine
