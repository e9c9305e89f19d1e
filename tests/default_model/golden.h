// The default model's float32 answers (shared data), and how far a runner is from them. The file's
// README says how large honest errors are in each arithmetic.
#pragma once
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/runner/model_runner.h"
#include "tests/model/sequence_driver.h"
#include "tests/shared_data.h"

namespace modu::tests {

inline std::filesystem::path DefaultModelPath() {
  const char* home = std::getenv("MODU_HOME");
  const char* user = std::getenv("HOME");
  const std::filesystem::path root =
      home != nullptr ? std::filesystem::path(home)
                      : std::filesystem::path(user == nullptr ? "" : user) / ".cache/modu";
  return root / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
}

/// Null where model or answers are not here; says so.
inline nlohmann::json LoadGolden() {
  const auto path = SharedData("generation/smollm2-135m-q4_1.json");
  if (!HaveSharedData(path) || !HaveSharedData(DefaultModelPath())) return nullptr;
  return nlohmann::json::parse(ReadWholeFile(path));
}

/// Errors of top-5 log probabilities over many steps, and argmaxes that changed.
struct ErrorStatistics {
  std::vector<double> errors;
  int steps = 0, changed = 0;
  double largest_changed_gap = 0;

  void Add(const engine::SampledRow& row, const nlohmann::json& ids, const nlohmann::json& logprobs,
           double gap) {
    ++steps;
    for (size_t k = 0; k < ids.size(); ++k) {
      double error = 1e9;  // not among the best: far off
      for (const engine::TokenLogprob& entry : row.top_logprobs) {
        if (entry.token_id == ids[k].get<int32_t>())
          error = std::fabs(entry.logprob - logprobs[k].get<double>());
      }
      errors.push_back(error);
    }
    if (row.top_logprobs.at(0).token_id != ids[0].get<int32_t>()) {
      ++changed;
      largest_changed_gap = std::max(largest_changed_gap, gap);
    }
  }
  double mean() const {
    double sum = 0;
    for (double error : errors) sum += error;
    return sum / static_cast<double>(errors.size());
  }
  double quantile(double q) const {
    std::vector<double> sorted = errors;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))];
  }
};

/// Feeds ids[0..n-2] in chunks and asks for the log probability of each next token from
/// `first_target` on, with the `top` best beside it. Row i belongs to ids[first_target + i].
inline std::vector<engine::SampledRow> ScoreSequence(engine::ModelRunner* runner,
                                                     const std::vector<int32_t>& ids,
                                                     size_t first_target, int32_t top,
                                                     size_t chunk) {
  const int32_t block_size = runner->spec().groups[0].block_size;
  SequenceDriver sequence(runner, 0, static_cast<int32_t>(ids.size()) / block_size + 1);
  std::vector<engine::SampledRow> out;
  for (size_t begin = 0; begin + 1 < ids.size(); begin += chunk) {
    const size_t end = std::min(ids.size() - 1, begin + chunk);
    std::vector<engine::SampleRow> rows;
    for (size_t i = begin; i < end; ++i) {
      if (i + 1 >= first_target)
        rows.push_back(TargetRow(static_cast<int32_t>(i - begin), ids[i + 1], top));
    }
    engine::StepOutput step = sequence.Step({ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                             ids.begin() + static_cast<std::ptrdiff_t>(end)},
                                            rows);
    INFO(step.status.ToString());
    REQUIRE(step.status.ok());
    out.insert(out.end(), step.rows.begin(), step.rows.end());
  }
  return out;
}

/// Teacher-forced over one recorded generation: every output step's top 5.
inline void ScoreGeneration(engine::ModelRunner* runner, const nlohmann::json& generation,
                            size_t chunk, ErrorStatistics* statistics) {
  auto ids = generation.at("prompt_ids").get<std::vector<int32_t>>();
  const size_t prompt = ids.size();
  const auto output = generation.at("output_ids").get<std::vector<int32_t>>();
  ids.insert(ids.end(), output.begin(), output.end());
  const auto rows = ScoreSequence(runner, ids, prompt, 20, chunk);
  REQUIRE(rows.size() == output.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    REQUIRE_FALSE(rows[i].numeric_error);
    statistics->Add(rows[i], generation.at("top_ids")[i], generation.at("top_logprobs")[i],
                    generation.at("gap")[i].get<double>());
  }
}

}  // namespace modu::tests
