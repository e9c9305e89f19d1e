// Tiny random models of each architecture against Hugging Face's float32 answers, through the
// runner, in both spellings of config.json: logits of the last place, prompt log probabilities,
// greedy tokens.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/runner/load_model.h"
#include "tests/catch.h"
#include "tests/model/sequence_driver.h"
#include "tests/shared_data.h"

namespace modu::engine {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr float kLogitBound = 1e-3f;

/// A folder with the tiny model's weights and the chosen config under its usual name.
class ModelFolder {
 public:
  ModelFolder(const fs::path& model, const std::string& config) {
    path_ = fs::temp_directory_path() /
            ("modu-tiny-" + std::to_string(::getpid()) + "-" + model.filename().string());
    fs::remove_all(path_);
    fs::create_directories(path_);
    fs::copy_file(model / config, path_ / "config.json");
    fs::create_symlink(fs::absolute(model / "model.safetensors"), path_ / "model.safetensors");
  }
  ~ModelFolder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

LoadedModel Load(const std::string& path, kernels::Numerics numerics) {
  kernels::DeviceOptions device;
  device.numerics = numerics;
  RunnerOptions options;
  options.max_batch_tokens = 160;
  options.max_sequences = 8;
  options.kv_tokens = 1024;
  auto model = LoadModel(path, kernels::OpenRefDevice(device), options, nullptr);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

/// Log-softmax of the golden logits, in float64.
std::vector<double> LogSoftmax(const std::vector<float>& logits) {
  double largest = -1e300, sum = 0;
  for (float x : logits) largest = std::max<double>(largest, x);
  for (float x : logits) sum += std::exp(x - largest);
  std::vector<double> out;
  for (float x : logits) out.push_back(x - largest - std::log(sum));
  return out;
}

void CheckPrompt(ModelRunner* runner, const Json& prompt) {
  const auto ids = prompt.at("ids").get<std::vector<int32_t>>();
  const auto logits = prompt.at("last_logits").get<std::vector<float>>();
  const auto greedy = prompt.at("greedy_ids").get<std::vector<int32_t>>();
  SamplingParams params;
  params.temperature = 0;
  const SamplerSlot slot = runner->StartSequence(params, ids, 0);
  tests::SequenceDriver sequence(runner, 3, 8);
  std::vector<SampleRow> rows;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    rows.push_back(tests::TargetRow(static_cast<int32_t>(i), ids[i + 1], 1));
  }
  rows.push_back(tests::GreedyRow(static_cast<int32_t>(ids.size()) - 1, slot,
                                  static_cast<int32_t>(logits.size())));
  StepOutput out = sequence.Step(ids, rows);
  INFO(out.status.ToString());
  REQUIRE(out.status.ok());
  // The last place: every token's log probability.
  const std::vector<double> expected = LogSoftmax(logits);
  const SampledRow& last = out.rows.back();
  REQUIRE(last.top_logprobs.size() == logits.size());
  for (const TokenLogprob& entry : last.top_logprobs) {
    REQUIRE(std::fabs(entry.logprob - expected[static_cast<size_t>(entry.token_id)]) < kLogitBound);
  }
  // Every prompt token and the best token of every place.
  const Json& logprobs = prompt.at("prompt_logprobs");
  const auto argmax = prompt.at("argmax_ids").get<std::vector<int32_t>>();
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    REQUIRE(std::fabs(out.rows[i].logprob - logprobs[i + 1].get<double>()) < kLogitBound);
    REQUIRE(out.rows[i].top_logprobs.at(0).token_id == argmax[i]);
  }
  // Greedy continuation; its gaps are all above 0.008.
  int32_t token = last.token_id;
  for (size_t i = 0; i < greedy.size(); ++i) {
    REQUIRE(token == greedy[i]);
    SampleRow row = tests::GreedyRow(0, slot, -1);
    row.position = static_cast<int32_t>(i + 1);
    token = sequence.Step({token}, {row}).rows.at(0).token_id;
  }
  runner->EndSequence(slot);
}

TEST_CASE("tiny models give Hugging Face's answers") {
  const auto root = tests::SharedData("generation/tiny");
  if (!tests::HaveSharedData(root)) return;
  const std::string name =
      GENERATE("llama", "llama-llama3-bias", "mistral-window", "qwen2", "qwen3");
  const std::string config = GENERATE("config.json", "config.legacy.json");
  INFO(name << " " << config);
  const ModelFolder folder(root / name, config);
  LoadedModel model = Load(folder.path(), kernels::Numerics::kExact);
  CHECK(model.unused_tensors.empty());
  const Json golden = Json::parse(tests::ReadWholeFile(root / name / "golden.json"));
  int prompts = 0;
  for (const Json& prompt : golden.at("prompts")) {
    INFO("prompt " << prompts);
    CheckPrompt(model.runner.get(), prompt);
    ++prompts;
  }
  REQUIRE(prompts == 4);
}

}  // namespace
}  // namespace modu::engine
