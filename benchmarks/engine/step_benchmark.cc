// Whole steps of a model through TransformerRunner: greedy decoding of S sequences and prefill in
// chunks, wall time, median of the steps after warm-up. No HTTP, scheduler or text.
//   step_benchmark MODEL [threads=2] [numerics=auto|int8|bf16|exact|phased] [isa=]
//                  [STREAMS CONTEXT STEPS [COMMON] | prefill LENGTH CHUNK | mixed STREAMS CONTEXT]
// auto: what the machine's default is. With the last ones only that many steps of that decoding
// (and, of one stream, its share of the memory's speed); or only that prompt; or steps of so many
// decodes beside parts of a prompt. COMMON: all sequences have their first so many tokens in the
// same KV blocks, and in turn each in its own.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "benchmarks/kernels/read_bandwidth.h"
#include "engine/runner/load_model.h"

namespace modu::engine {
namespace {

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::milli>(Clock::now() - since).count();
}

struct Sequences {
  ModelRunner& runner;
  int count;
  int max_len;
  int common = 0;       // tokens whose blocks are those of the first
  int first_block = 0;  // of the first
  int block = runner.spec().groups[0].block_size;
  std::vector<SamplerSlot> slots;

  int BlocksEach() const { return (max_len + block - 1) / block; }
  int32_t Block(int sequence, int index) const {
    return first_block + (index < common / block ? 0 : sequence * BlocksEach()) + index;
  }

  /// Tokens [first, first + count) of a sequence; sampled: the last one's logits are needed.
  struct Span {
    int sequence, first, count;
    bool sampled;  // it decodes
  };

  /// Returns the wall milliseconds.
  double Step(const std::vector<Span>& spans) {
    ForwardInput input;
    input.cu_seqlens.push_back(0);
    input.num_generated_seqs =
        static_cast<int32_t>(std::ranges::count(spans, true, &Span::sampled));
    input.groups.resize(runner.spec().groups.size());
    for (const Span& span : spans) {
      const int last = span.first + span.count;
      for (int t = span.first; t < last; ++t) {
        input.token_ids.push_back(100 + (t * 31 + span.sequence * 17) % 2000);
        input.positions.push_back(t);
      }
      input.cu_seqlens.push_back(static_cast<int32_t>(input.token_ids.size()));
      input.seq_lens.push_back(last);
      for (GroupInput& group : input.groups) {
        group.block_table_stride = BlocksEach();
        for (int b = 0; b < BlocksEach(); ++b) {
          group.block_table.push_back(Block(span.sequence, b));
        }
        for (int t = span.first; t < last; ++t) {
          group.slot_mapping.push_back(int64_t{Block(span.sequence, t / block)} * block +
                                       t % block);
        }
      }
      if (span.sampled) {
        SampleRow row;
        row.token_row = input.cu_seqlens.back() - 1;
        row.slot = slots[static_cast<size_t>(span.sequence)];
        row.position = span.first;
        input.sample_rows.push_back(row);
      }
    }
    const auto start = Clock::now();
    const StepOutput output = runner.Wait(runner.Launch(std::move(input)));
    const double took = Milliseconds(start);
    if (!output.status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(output.status.message()).c_str());
      std::exit(1);
    }
    return took;
  }

  /// Those tokens of sequences [s, s + num).
  double Step(int s, int num, int first, int n, bool sampled) {
    std::vector<Span> spans;
    for (int i = s; i < s + num; ++i) spans.push_back({i, first, n, sampled});
    return Step(spans);
  }

  /// The first `count` sequences with `context` tokens in the cache.
  void Fill(const SamplingParams& params, int num, int context) {
    for (int i = 0; i < num; ++i) {
      slots.push_back(runner.StartSequence(params, {1}, 0));
      for (int t = 0; t < context; t += 128) Step(i, 1, t, std::min(128, context - t), false);
    }
  }
  void End() {
    for (SamplerSlot slot : slots) runner.EndSequence(slot);
  }
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Steps of `streams` decodes and so many tokens of another sequence's prompt, behind 64 of it, in
/// turn; and what each token of the prompt adds.
void MeasureMixed(ModelRunner& runner, const SamplingParams& params, int streams, int context) {
  const std::vector<int> prompts = {0, 16, 32, 48, 64, 96, 128, 256};
  constexpr int kRounds = 15, kBehind = 64;
  Sequences sequences{runner, streams + 1, context + 512};
  sequences.Fill(params, streams, context);
  sequences.Step(streams, 1, 0, kBehind, false);
  std::vector<std::vector<double>> times(prompts.size());
  for (int round = 0; round < kRounds; ++round) {
    for (size_t p = 0; p < prompts.size(); ++p) {
      std::vector<Sequences::Span> spans;
      for (int i = 0; i < streams; ++i) spans.push_back({i, context + round, 1, true});
      if (prompts[p] > 0) spans.push_back({streams, kBehind, prompts[p], false});
      times[p].push_back(sequences.Step(spans));
    }
  }
  sequences.End();
  const double alone = Median(times[0]);
  for (size_t p = 0; p < prompts.size(); ++p) {
    const double took = Median(times[p]);
    std::printf("| decode %d at %d and %d of a prompt | %.2f | ", streams, context, prompts[p],
                took);
    if (prompts[p] == 0) {
      std::printf("%.0f |\n", streams / took * 1e3);
    } else {
      std::printf("%.3f ms a token of the prompt |\n", (took - alone) / prompts[p]);
    }
  }
}

/// How fast a step of one row went through the weights, beside what the same workers read from as
/// much memory in the same minute.
void PrintShare(kernels::Device& device, int64_t bytes, double step_ms) {
  const double memory =
      benchmarks::MeasureReadBandwidth(device, static_cast<size_t>(bytes), 5).median;
  const double reached = static_cast<double>(bytes) / step_ms * 1e3;
  std::printf("| its %.0f MB of weights | at %.1f GB/s, memory %.1f | %.0f %% |\n",
              static_cast<double>(bytes) / 1e6, reached / 1e9, memory / 1e9,
              100 * reached / memory);
}

/// Steps of sequences whose first `common` tokens lie in the same KV blocks, and of as many without
/// anything in common, in turn.
void MeasureCommon(ModelRunner& runner, const SamplingParams& params, int streams, int context,
                   int steps, int common) {
  const int length = context + 64 + steps;
  Sequences apart{runner, streams, length}, joined{runner, streams, length, common};
  joined.first_block = streams * apart.BlocksEach();
  std::vector<double> times[2];
  for (Sequences* sequences : {&apart, &joined}) sequences->Fill(params, streams, context);
  for (int t = 0; t < steps; ++t) {
    times[0].push_back(apart.Step(0, streams, context + t, 1, true));
    times[1].push_back(joined.Step(0, streams, context + t, 1, true));
  }
  apart.End();
  joined.End();
  const double alone = Median(times[0]), together = Median(times[1]);
  std::printf("| decode %d at %d, nothing in common | %.2f | %.0f |\n", streams, context, alone,
              streams / alone * 1e3);
  std::printf("| decode %d at %d, %d in common | %.2f (%.2f of it) | %.0f |\n", streams, context,
              common, together, together / alone, streams / together * 1e3);
}

/// Best of a few runs over one prompt.
void MeasurePrefill(ModelRunner& runner, int length, int chunk, int runs) {
  Sequences sequences{runner, 1, length};
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    double once = 0;
    for (int t = 0; t < length; t += chunk) {
      once += sequences.Step(0, 1, t, std::min(chunk, length - t), false);
    }
    best = std::min(best, once);
  }
  std::printf("| prefill %d in chunks of %d | %.1f | %.0f |\n", length, chunk, best,
              length / best * 1e3);
}

int Main(int argc, char** argv) {
  kernels::DeviceOptions device;
  device.num_threads = argc > 2 ? std::atoi(argv[2]) : 2;
  std::string numerics = argc > 3 ? argv[3] : "auto", kv;
  if (const size_t colon = numerics.find(':'); colon != std::string::npos) {
    kv = numerics.substr(colon + 1);
    numerics.resize(colon);
  }
  device.numerics = kernels::NumericsNamed(numerics);
  if (!device.numerics.has_value() && numerics != "auto") {
    std::fprintf(stderr, "numerics: auto, exact, bf16, int8 or phased, not %s\n", numerics.c_str());
    return 2;
  }
  device.isa = argc > 4 ? argv[4] : "";
  RunnerOptions options;
  options.kv_tokens = (argc > 8 ? 160 : 80) * 1024;  // two sets beside each other
  options.max_model_len = 2048;
  options.max_batch_tokens = 2048;
  options.kv_dtype = KvDTypeNamed(kv);
  auto opened = kernels::OpenCpuDevice(device);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", std::string(opened.status().message()).c_str());
    return 2;
  }
  kernels::Device& opened_device = **opened;  // the runner keeps it
  auto model = LoadModel(argv[1], *std::move(opened), options, nullptr);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", std::string(model.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n\n| step | ms | tokens/s |\n|---|---|---|\n", model->device.c_str());
  SamplingParams greedy;
  greedy.temperature = 0;
  struct Decode {
    int count, context, steps;
  };
  std::vector<Decode> loads = {{1, 128, 24},  {1, 512, 24}, {4, 128, 24}, {16, 128, 24},
                               {16, 512, 24}, {64, 128, 8}, {64, 512, 8}};
  const bool one = argc > 7;
  if (one && std::strcmp(argv[5], "prefill") == 0) {
    MeasurePrefill(*model->runner, std::atoi(argv[6]), std::atoi(argv[7]), 10);
    return 0;
  }
  if (one && std::strcmp(argv[5], "mixed") == 0) {
    MeasureMixed(*model->runner, greedy, std::atoi(argv[6]), std::atoi(argv[7]));
    return 0;
  }
  if (argc > 8) {
    MeasureCommon(*model->runner, greedy, std::atoi(argv[5]), std::atoi(argv[6]),
                  std::atoi(argv[7]), std::atoi(argv[8]));
    return 0;
  }
  if (one) loads = {{std::atoi(argv[5]), std::atoi(argv[6]), std::atoi(argv[7])}};
  for (const Decode& load : loads) {
    Sequences sequences{*model->runner, load.count, load.context + 64 + load.steps};
    sequences.Fill(greedy, load.count, load.context);
    std::vector<double> times;
    for (int t = 0; t < load.steps; ++t) {
      times.push_back(sequences.Step(0, load.count, load.context + t, 1, true));
    }
    sequences.End();
    const double median = Median(times);
    std::printf("| decode %d at %d | %.2f (best %.2f) | %.0f |\n", load.count, load.context, median,
                std::ranges::min(times), load.count / median * 1e3);
    if (load.count == 1) {
      PrintShare(opened_device, model->greedy_weight_bytes, median);
    }
    std::fflush(stdout);
  }
  if (one) return 0;
  for (const int length : {256, 1536}) MeasurePrefill(*model->runner, length, 256, 3);
  return 0;
}

}  // namespace
}  // namespace modu::engine

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(
        stderr,
        "step_benchmark MODEL [threads] [auto|int8|bf16|exact|phased[:KV]] [isa] "
        "[STREAMS CONTEXT STEPS [COMMON] | prefill LENGTH CHUNK | mixed STREAMS CONTEXT]\n");
    return 2;
  }
  return modu::engine::Main(argc, argv);
}
