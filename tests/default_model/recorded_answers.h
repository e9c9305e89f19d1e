// How far a runner is from a file of recorded answers (format generation-oracle/1: greedy tokens
// with the best 5 log probabilities of every step, and texts with the log probability of every
// token). Teacher-forced, so that one step's error does not become another's. Used by the tests and
// by benchmarks/engine; a runner that fails is a bug of ours and ends the program.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/runner/model_runner.h"
#include "kernels/check.h"
#include "tests/model/sequence_driver.h"

namespace modu::tests {

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
  void Add(const ErrorStatistics& other) {
    errors.insert(errors.end(), other.errors.begin(), other.errors.end());
    steps += other.steps;
    changed += other.changed;
    largest_changed_gap = std::max(largest_changed_gap, other.largest_changed_gap);
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

constexpr size_t kAllPrompt = SIZE_MAX;

/// Feeds ids[0..n-2] in chunks and asks for the log probability of each next token from
/// `first_target` on, with the `top` best beside it. Row i belongs to ids[first_target + i]. The
/// first num_prompt tokens are fed as a prompt's, the others as generated ones.
inline std::vector<engine::SampledRow> ScoreSequence(engine::ModelRunner* runner,
                                                     const std::vector<int32_t>& ids,
                                                     size_t first_target, int32_t top, size_t chunk,
                                                     size_t num_prompt = kAllPrompt) {
  const int32_t block_size = runner->spec().groups[0].block_size;
  SequenceDriver sequence(runner, 0, static_cast<int32_t>(ids.size()) / block_size + 1);
  std::vector<engine::SampledRow> out;
  for (size_t begin = 0, end; begin + 1 < ids.size(); begin = end) {
    end = std::min(ids.size() - 1, begin + chunk);
    if (begin < num_prompt) end = std::min(end, num_prompt);
    const auto phase = begin < num_prompt ? kernels::Phase::kPrompt : kernels::Phase::kGeneration;
    std::vector<engine::SampleRow> rows;
    for (size_t i = begin; i < end; ++i) {
      if (i + 1 >= first_target)
        rows.push_back(TargetRow(static_cast<int32_t>(i - begin), ids[i + 1], top));
    }
    engine::StepOutput step = sequence.Step({ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                             ids.begin() + static_cast<std::ptrdiff_t>(end)},
                                            rows, phase);
    MODU_CHECK(step.status.ok());
    for (const engine::SampledRow& row : step.rows) MODU_CHECK(!row.numeric_error);
    out.insert(out.end(), step.rows.begin(), step.rows.end());
  }
  return out;
}

/// Every output step's top 5 of one recorded generation.
inline ErrorStatistics ScoreGeneration(engine::ModelRunner* runner,
                                       const nlohmann::json& generation, size_t chunk) {
  auto ids = generation.at("prompt_ids").get<std::vector<int32_t>>();
  const size_t prompt = ids.size();
  const auto output = generation.at("output_ids").get<std::vector<int32_t>>();
  ids.insert(ids.end(), output.begin(), output.end());
  const auto rows = ScoreSequence(runner, ids, prompt, 20, chunk, prompt);
  MODU_CHECK(rows.size() == output.size());
  ErrorStatistics statistics;
  for (size_t i = 0; i < rows.size(); ++i) {
    statistics.Add(rows[i], generation.at("top_ids")[i], generation.at("top_logprobs")[i],
                   generation.at("gap")[i].get<double>());
  }
  return statistics;
}

/// Negative log likelihood a token of one recorded text, every token after the first.
inline double NllPerToken(engine::ModelRunner* runner, const nlohmann::json& text, size_t chunk,
                          size_t num_prompt = kAllPrompt) {
  const auto ids = text.at("ids").get<std::vector<int32_t>>();
  double sum = 0;
  for (const engine::SampledRow& row : ScoreSequence(runner, ids, 1, -1, chunk, num_prompt))
    sum -= row.logprob;
  return sum / static_cast<double>(ids.size() - 1);
}

/// The same where all but a few first tokens were generated: the mean over where the prompt ends.
/// A last bit of the first tokens' KV moves one such number by chance as far as the arithmetic does
/// on average.
inline double NllAsAnswer(engine::ModelRunner* runner, const nlohmann::json& text, size_t chunk) {
  double sum = 0;
  int ends = 0;
  for (const size_t num_prompt : {1, 4, 16, 64, 128, 256}) {
    sum += NllPerToken(runner, text, chunk, num_prompt);
    ++ends;
  }
  return sum / ends;
}

}  // namespace modu::tests
