// Attention of the x86 backend against its floors, on the shape of SmolLM2-135M: 30 layers, 9 query
// heads over 3 KV heads of 64 dims, bf16 KV (or codes of 8 bits) in 32-token blocks scattered at
// random. One core, thread CPU time, best of several runs. The floors are measured in the same run:
// the peak of the level's own instruction (for bf16, over codes too) and read bandwidth over as
// many bytes as the KV takes. Prints a table for benchmarks/results; --json is for
// benchmarks/plots.
//   attention_benchmark [--json FILE] [avx2|avx512|avx512bf16|amx[:int8|:fp8]] [SEQS ROWS CONTEXT
//   [COMMON TOGETHER]]
// COMMON: tokens that all begin with; TOGETHER: so many sequences (of one row) walk them at once.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/roofline_json.h"
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/float_formats.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kLayers = 30, kHeads = 9, kKvHeads = 3, kDim = 64, kGroup = kHeads / kKvHeads;

double ThreadSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <typename Body>
double Best(Body&& body) {
  double best = 1e30, spent = 0;
  for (int run = 0; run < 40 && (run < 4 || spent < 0.6); ++run) {
    const double start = ThreadSeconds();
    body();
    const double took = ThreadSeconds() - start;
    spent += took;
    best = std::min(best, took);
  }
  return best;
}

struct Load {
  int seqs, seq_len, query_tokens;
  int common = 0;    // tokens that all sequences begin with, in the same blocks
  int together = 1;  // sequences of one row each that walk the whole common pieces at once
};

/// Numbers within 1 of 0. Scales are bytes of the codes' memory: each word of it is one that is
/// both a small float and four codes.
void Fill(CpuKvCache& cache) {
  if (IsKvCode(cache.layout().dtype)) {
    auto* const words = reinterpret_cast<uint32_t*>(cache.Head(0, 0));
    for (int64_t i = 0; i < cache.bytes() / 4; ++i) {
      words[i] = 0x3C000000u + static_cast<uint32_t>(i * 2654435761u >> 9) % 0x800000u;
    }
    return;
  }
  auto* const words = reinterpret_cast<uint16_t*>(cache.Head(0, 0));
  for (int64_t i = 0; i < cache.bytes() / 2; ++i) {
    words[i] = FloatToBf16(static_cast<float>((i * 2654435761u >> 20) % 2048) / 1024.0f - 1.0f);
  }
}

void Measure(const Load& load, DType kv, const AttentionKernels& kernels,
             benchmarks::Roofline* roofline) {
  // A decode's rows go as behind int8 products.
  const AttentionFn run =
      kernels.Run(kv, load.query_tokens == 1 ? PreparedKind::kInt8 : PreparedKind::kBf16Tiles);
  const int blocks_per_seq = (load.seq_len + kKvBlockTokens - 1) / kKvBlockTokens;
  const int common_blocks = load.common / kKvBlockTokens;
  const int64_t num_blocks = common_blocks + int64_t{load.seqs} * (blocks_per_seq - common_blocks);
  CpuKvCache cache({kLayers, kKvHeads, kDim, kKvBlockTokens, kv}, num_blocks);
  const KvGeometry& geometry = cache.geometry();
  Fill(cache);
  std::vector<int32_t> blocks(static_cast<size_t>(num_blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  std::mt19937 random(1);
  std::shuffle(blocks.begin(), blocks.end(), random);
  std::vector<int32_t> table;
  auto own = blocks.cbegin() + common_blocks;
  for (int s = 0; s < load.seqs; ++s) {
    table.insert(table.end(), blocks.cbegin(), blocks.cbegin() + common_blocks);
    table.insert(table.end(), own, own + (blocks_per_seq - common_blocks));
    own += blocks_per_seq - common_blocks;
  }

  const int64_t q_stride = (kHeads + 2 * kKvHeads) * kDim;
  const int item_tokens = std::min(load.query_tokens, 32);
  const int64_t tokens = int64_t{load.seqs} * load.query_tokens;
  std::vector<float> q(static_cast<size_t>(tokens * q_stride));
  for (float& x : q) x = static_cast<float>(random() % 1000) * 2e-4f - 0.1f;
  std::vector<float> out(static_cast<size_t>(tokens * kHeads * kDim));
  const size_t scratch_floats = AttentionScratchFloats(
      kv, std::max(item_tokens, load.together) * kGroup, geometry.padded_dim);
  std::vector<float> scratch(scratch_floats + 16);
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  float* aligned = scratch.data() + (64 - address % 64) % 64 / sizeof(float);

  const int common_pieces = load.together > 1 ? load.common / kPieceTokens : 0;
  const int64_t state_floats = StateFloats(geometry.padded_dim);
  std::vector<float> states(static_cast<size_t>(load.together * kGroup * state_floats));
  std::vector<int32_t> q_tokens(static_cast<size_t>(load.together));
  std::iota(q_tokens.begin(), q_tokens.end(), 0);
  const auto item_of = [&](int layer, int head, int s, int token) {
    const int64_t row = int64_t{s} * load.query_tokens + token;
    AttentionItem item{};
    item.q = q.data() + row * q_stride + head * kGroup * kDim;
    item.q_stride = q_stride;
    item.num_tokens = std::min(item_tokens, load.query_tokens - token);
    item.group = kGroup;
    item.first_position = load.seq_len - load.query_tokens + token;
    item.head_dim = kDim;
    item.padded_dim = geometry.padded_dim;
    item.value_span = IsKvCode(kv) ? RotationSpan(kDim) : 1;
    item.k = cache.Head(layer, head);
    item.half_bytes = geometry.half_bytes;
    item.v_offset = geometry.v_offset;
    item.block_stride = geometry.block_stride;
    item.block_table = table.data() + int64_t{s} * blocks_per_seq;
    item.piece_begin = 0;
    item.piece_end = (item.first_position + item.num_tokens - 1) / kPieceTokens + 1;
    item.out = out.data() + row * kHeads * kDim + head * kGroup * kDim;
    item.out_stride = kHeads * kDim;
    item.scratch = aligned;
    const int next_seq = head + 1 < kKvHeads ? s : (s + 1) % load.seqs;
    item.next = {.k = cache.Head(layer, (head + 1) % kKvHeads),
                 .blocks = table.data() + int64_t{next_seq} * blocks_per_seq,
                 .count = std::min(blocks_per_seq, kPieceTokens / kKvBlockTokens)};
    return item;
  };
  const auto alone = [&](int layer, int s) {
    for (int token = 0; token < load.query_tokens; token += item_tokens) {
      for (int head = 0; head < kKvHeads; ++head) run(item_of(layer, head, s, token));
    }
  };
  const auto together = [&](int layer, int first, int count) {
    for (int head = 0; head < kKvHeads; ++head) {
      AttentionItem item = item_of(layer, head, first, 0);
      item.q_tokens = q_tokens.data();
      item.num_tokens = count;
      item.first_position = common_pieces * kPieceTokens;
      item.piece_end = common_pieces;
      item.out = nullptr;
      item.states = states.data();
      for (int64_t r = 0; r < count * kGroup; ++r) item.states[r * state_floats + kHasPieces] = 0;
      run(item);
      for (int i = 0; i < count; ++i) {
        AttentionItem rest = item_of(layer, head, first + i, 0);
        rest.piece_begin = common_pieces;
        rest.states = states.data() + i * kGroup * state_floats;
        run(rest);
      }
    }
  };
  const auto step = [&] {
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int s = 0; s < load.seqs; s += load.together) {
        if (common_pieces == 0) {
          for (int i = s; i < std::min(s + load.together, load.seqs); ++i) alone(layer, i);
        } else {
          together(layer, s, std::min(load.together, load.seqs - s));
        }
      }
    }
  };
  const double took = Best(step);
  const double reading =
      Best([&] { benchmarks::ReadOnce(cache.Head(0, 0), static_cast<size_t>(cache.bytes())); });
  double pairs = 0;  // (query token, KV token)
  for (int i = 0; i < load.query_tokens; ++i) pairs += load.seq_len - load.query_tokens + i + 1;
  pairs *= static_cast<double>(load.seqs) * kHeads * kLayers;
  const double operations = pairs * 4 * kDim;  // of Q x K and of P x V
  const auto bytes = static_cast<double>(cache.bytes());
  const double arithmetic = operations / roofline->operations_per_s;
  std::string kernel =
      std::to_string(load.seqs) + " x " + std::to_string(load.query_tokens) + " tokens";
  if (load.common > 0) {
    kernel += ", " + std::to_string(load.common) + " in common, " + std::to_string(load.together) +
              " together";
  }
  std::printf("| %s at %d | %.1f | %.3f | %.2f | %.1f | %.1f | %.3f | %.3f | %.0f %% |\n",
              kernel.c_str(), load.seq_len, bytes / 1e6, took * 1e3, took * 1e9 / pairs,
              bytes / took / 1e9, operations / took / 1e9, arithmetic * 1e3, reading * 1e3,
              100 * std::max(arithmetic, reading) / took);
  roofline->points.push_back({kernel, std::to_string(load.seq_len), took, bytes, operations});
  std::fflush(stdout);
}

AttentionKernels KernelsOf(Isa isa) {
  if (isa >= Isa::kAmx) return AttentionKernelsAmx();
  if (isa >= Isa::kAvx512Bf16) return AttentionKernelsAvx512Bf16();
  return isa >= Isa::kAvx512 ? kAttentionAvx512 : kAttentionAvx2;
}

/// What one thread reads from memory, in bytes a second.
double MemoryReadRate() {
  const std::vector<std::byte> memory(size_t{96} << 20, std::byte{1});
  return static_cast<double>(memory.size()) /
         Best([&] { benchmarks::ReadOnce(memory.data(), memory.size()); });
}

int Main(const std::string& name, DType kv, const std::vector<Load>& loads,
         const std::string& json) {
  Isa isa = DetectIsa();  // and asks the system for tiles
  for (const Isa level : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (NameOf(level) == name && level < isa) isa = level;
  }
  // Below level avx512bf16 bf16 KV is widened and multiplied in float.
  const benchmarks::Peak peak = benchmarks::MeasurePeak(isa, benchmarks::Arithmetic::kBf16);
  benchmarks::Roofline roofline{"attention, cpu " + std::string(NameOf(isa)) + ", 1 thread",
                                MemoryReadRate(),
                                peak.instruction,
                                peak.operations,
                                {}};
  std::printf("%s kernels; %s peak %.1f G operations/s, read bandwidth over 96 MiB %.1f GB/s\n\n",
              std::string(NameOf(isa)).c_str(), peak.instruction, peak.operations / 1e9,
              roofline.read_bytes_per_s / 1e9);
  std::printf(
      "| sequences x rows at context | distinct KV MB | ms a step | ns per (KV token, q head, "
      "layer, row) | "
      "GB/s | GOP/s | peak floor ms | read floor ms | share of the floor |\n"
      "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const Load& load : loads) Measure(load, kv, KernelsOf(isa), &roofline);
  return json.empty() || benchmarks::WriteJson(roofline, json) ? 0 : 1;
}

}  // namespace
}  // namespace modu::kernels::cpu

int main(int argc, char** argv) {
  std::string json;
  if (argc > 2 && std::string(argv[1]) == "--json") {
    json = argv[2];
    argv += 2;
    argc -= 2;
  }
  std::vector<modu::kernels::cpu::Load> loads = {
      {1, 128, 1},    {1, 512, 1},           {1, 2048, 1},          {16, 128, 1},  {16, 512, 1},
      {16, 2048, 1},  {64, 128, 1},          {64, 512, 1},          {64, 2048, 1}, {1, 256, 256},
      {1, 1500, 256}, {64, 1000, 1, 992, 1}, {64, 1000, 1, 992, 32}};
  const auto number = [&](int i) { return std::atoi(argv[i]); };
  if (argc >= 5) loads = {{number(2), number(4), number(3)}};
  if (argc >= 7) {
    loads[0].common = number(5);
    loads[0].together = std::max(1, number(6));
  }
  // LEVEL[:KV]
  const std::string level = argc > 1 ? argv[1] : "", codes = level.substr(level.find(':') + 1);
  const auto kv = codes == "int8"  ? modu::kernels::DType::kI8
                  : codes == "fp8" ? modu::kernels::DType::kF8E4M3
                                   : modu::kernels::DType::kBF16;
  return modu::kernels::cpu::Main(level.substr(0, level.find(':')), kv, loads, json);
}
