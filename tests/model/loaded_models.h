// Small models that a test writes itself, loaded on either backend, and their log probabilities.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/runner/load_model.h"
#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/model/sequence_driver.h"

namespace modu::engine {

using kernels::Numerics;

struct Backend {
  std::string name = "ref";
  Numerics numerics = Numerics::kExact;
  int threads = 1;
};

inline RunnerOptions Options() {
  RunnerOptions options;
  options.max_batch_tokens = 128;
  options.max_sequences = 8;
  options.kv_tokens = 2048;
  return options;
}

inline std::unique_ptr<kernels::Device> OpenDevice(const Backend& backend) {
  kernels::DeviceOptions options;
  options.numerics = backend.numerics;
  options.num_threads = backend.threads;
  return backend.name == "ref" ? kernels::OpenRefDevice(options) : *kernels::OpenCpuDevice(options);
}

/// kv_dtype: none: the device's default.
inline LoadedModel Load(const std::string& path, const Backend& backend,
                        std::optional<kernels::DType> kv_dtype = std::nullopt) {
  RunnerOptions options = Options();
  options.kv_dtype = kv_dtype;
  auto model = LoadModel(path, OpenDevice(backend), options, nullptr);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  return *std::move(model);
}

inline std::vector<int32_t> RandomIds(size_t n, int vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)));
  return ids;
}

/// Log probabilities of every token after each of `ids`, fed in chunks of the given sizes (the last
/// repeats).
inline std::vector<std::vector<TokenLogprob>> AllLogprobs(
    ModelRunner* runner, const std::vector<int32_t>& ids, const std::vector<size_t>& chunks,
    int32_t first_block = 0, kernels::Phase phase = kernels::Phase::kPrompt) {
  tests::SequenceDriver sequence(runner, first_block, 8);
  std::vector<std::vector<TokenLogprob>> out;
  size_t begin = 0;
  for (size_t c = 0; begin < ids.size(); ++c) {
    const size_t end = std::min(ids.size(), begin + chunks[std::min(c, chunks.size() - 1)]);
    std::vector<SampleRow> rows;
    for (size_t i = begin; i < end; ++i) {
      rows.push_back(
          tests::TargetRow(static_cast<int32_t>(i - begin), 0, runner->spec().vocab_size));
    }
    const StepOutput step = sequence.Step({ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                           ids.begin() + static_cast<std::ptrdiff_t>(end)},
                                          rows, phase);
    INFO(step.status.ToString());
    REQUIRE(step.status.ok());
    for (const SampledRow& row : step.rows) {
      REQUIRE_FALSE(row.numeric_error);
      out.push_back(row.top_logprobs);
    }
    begin = end;
  }
  return out;
}

inline bool SameBits(const std::vector<std::vector<TokenLogprob>>& a,
                     const std::vector<std::vector<TokenLogprob>>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return false;
    for (size_t k = 0; k < a[i].size(); ++k) {
      if (a[i][k].token_id != b[i][k].token_id) return false;
      if (std::memcmp(&a[i][k].logprob, &b[i][k].logprob, sizeof(float)) != 0) return false;
    }
  }
  return true;
}

/// Differences of tokens' log probabilities.
struct Differences {
  double largest = 0, mean = 0;
  double far = 0;  // what one in a thousand exceeds
};
inline Differences Compare(const std::vector<std::vector<TokenLogprob>>& a,
                           const std::vector<std::vector<TokenLogprob>>& b) {
  REQUIRE(a.size() == b.size());
  Differences differences;
  std::vector<double> all;
  for (size_t i = 0; i < a.size(); ++i) {
    std::vector<double> by_id(a[i].size());
    for (const TokenLogprob& entry : a[i])
      by_id[static_cast<size_t>(entry.token_id)] = entry.logprob;
    for (const TokenLogprob& entry : b[i]) {
      all.push_back(std::fabs(by_id[static_cast<size_t>(entry.token_id)] - entry.logprob));
    }
  }
  std::sort(all.begin(), all.end());
  differences.largest = all.back();
  differences.far = all[all.size() - 1 - all.size() / 1000];
  differences.mean = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  return differences;
}
inline double Difference(const std::vector<std::vector<TokenLogprob>>& a,
                         const std::vector<std::vector<TokenLogprob>>& b) {
  return Compare(a, b).largest;
}

/// The model as a folder and as a GGUF file side by side.
class BothKinds {
 public:
  explicit BothKinds(const tests::SmallModel& model, bool q8_0 = false) {
    folder_.Write("small.gguf", tests::ToGguf(model, q8_0).Finish());
    folder_.Write("hf/config.json", tests::ConfigJson(model));
    folder_.Write("hf/model.safetensors", tests::ToSafetensors(tests::F32Parts(model)));
  }
  std::string gguf() const { return folder_.Path("small.gguf"); }
  std::string folder() const { return folder_.Path("hf"); }

 private:
  tests::TempFolder folder_;
};

}  // namespace modu::engine
