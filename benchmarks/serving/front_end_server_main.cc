// `modu serve` with a model that computes nothing: the whole server, wired as ever, on a
// DrawingRunner with the tokenizer and the limits of a real model's files.
//   modu-front-end-server STEP_US MODEL [flags of modu serve]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/serving/drawing_runner.h"
#include "engine/checkpoint/checkpoint.h"
#include "server/cli/model_files.h"
#include "server/cli/serve_command.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

namespace modu::benchmark {
namespace {

constexpr int32_t kBlockTokens = 32;         // the CPU backend's
constexpr int32_t kSequenceTokens = 32'768;  // room for each; nothing is allocated for it

engine::RunnerSpec SpecOf(const config::Config& config, const engine::ModelConfig& model) {
  engine::RunnerSpec spec;
  const int64_t tokens =
      std::max<int64_t>(config.kv_tokens, int64_t{config.max_seqs} * kSequenceTokens);
  spec.groups = {{"full", kBlockTokens, static_cast<int32_t>(tokens / kBlockTokens), 0}};
  spec.vocab_size = model.vocab_size;
  spec.max_model_len = config.ctx > 0 ? config.ctx : model.max_position;
  spec.max_batch_tokens = std::max({256, config.max_step_tokens, config.max_seqs});
  spec.max_sequences = config.max_seqs;
  spec.eos_ids = model.eos_ids;
  return spec;
}

/// What is drawn is text: tokens that are whole characters, the n-th about 1/n as often as the
/// first (Zipf's law; a BPE vocabulary has the frequent ones first).
absl::StatusOr<std::vector<int32_t>> TextTokens(const engine::TokenizerFiles& files) {
  const auto tokenizer = text::LoadTokenizer(files);
  if (!tokenizer.ok()) return tokenizer.status();
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < (*tokenizer)->vocab_size(); ++id) {
    const std::string bytes = (*tokenizer)->TokenBytes(id, true);
    if (!bytes.empty() && text::ValidPrefix(bytes) == bytes.size()) ids.push_back(id);
  }
  if (ids.empty()) return absl::InvalidArgumentError("the model's tokens are no text");
  constexpr int kDraws = 4'096;
  std::vector<int32_t> draws;
  for (int i = 0; i < kDraws; ++i) {
    const double rank = std::pow(static_cast<double>(ids.size()), (i + 0.5) / kDraws);
    draws.push_back(ids[static_cast<size_t>(rank) - 1]);
  }
  return draws;
}

absl::StatusOr<cli::ModelSetup> SetUp(const config::Config& config, const std::string& path,
                                      std::chrono::microseconds step_time) {
  const auto checkpoint = engine::OpenCheckpoint(path);
  if (!checkpoint.ok()) return checkpoint.status();
  cli::ModelSetup setup;
  setup.loaded.config = (*checkpoint)->config();
  setup.loaded.tokenizer = (*checkpoint)->tokenizer_files();
  setup.loaded.format = (*checkpoint)->format();
  setup.loaded.device = "no arithmetic";
  auto ids = TextTokens(setup.loaded.tokenizer);
  if (!ids.ok()) return ids.status();
  const engine::RunnerSpec spec = SpecOf(config, setup.loaded.config);
  setup.loaded.runner = std::make_unique<DrawingRunner>(spec, *std::move(ids), step_time);
  auto served = cli::ServedModelOf(config, path, setup.loaded);
  if (!served.ok()) return served.status();
  setup.served = *std::move(served);
  setup.max_step_tokens = spec.max_batch_tokens;
  setup.kv_dtype = "none";
  return setup;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("usage: modu-front-end-server STEP_US MODEL [flags of modu serve]\n", stderr);
    return 2;
  }
  const std::chrono::microseconds step_time(std::atoi(argv[1]));
  const auto source = [step_time](const config::Config& config, const std::string& path,
                                  const engine::Clock*) { return SetUp(config, path, step_time); };
  return cli::ServeOn(source, argc - 1, argv + 1);
}

}  // namespace
}  // namespace modu::benchmark

int main(int argc, char** argv) { return modu::benchmark::Main(argc, argv); }
