// Times the ops that work on rows one by one (embedding, norm and rounding for the next product,
// rotation and KV) on SmolLM2-135M's shape beside their floor: reading what they read once and
// clearing what they write once, from where it lies after the op itself, by as many threads.
//   row_benchmark [--isa avx2] [--threads N] [--numerics int8|bf16|exact] [--repeats N]
// Best and median of the repeats are printed, in wall time; the machine's other load is the user's
// affair. The ops of products have linear_benchmark, attention its own.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"
#include "kernels/ops.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::benchmarks {
namespace {

using kernels::Buffer;
using kernels::Device;
using kernels::DType;
using kernels::PackedWeight;
using kernels::Phase;
using kernels::WeightUse;

constexpr int kWidth = 576, kHeads = 9, kKvHeads = 3, kDim = 64, kVocab = 49152;
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kDim, kMostRows = 1024;

struct Timing {
  double best, median;
};

template <typename Body>
Timing Time(int repeats, const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (i > 0) seconds.push_back(took.count());  // the first one warms up
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

/// The least that an op can do with its memory.
struct Moved {
  std::span<const std::byte> read;
  std::span<std::byte> written;
};

void MoveShare(void* context, int part) {
  const auto& [moved, parts] = *static_cast<std::pair<Moved, int>*>(context);
  const auto share = [&](size_t bytes) { return bytes / static_cast<size_t>(parts) / 64 * 64; };
  const auto from = [&](size_t bytes) { return share(bytes) * static_cast<size_t>(part); };
  ReadOnce(moved.read.data() + from(moved.read.size()), share(moved.read.size()));
  std::memset(moved.written.data() + from(moved.written.size()), 0, share(moved.written.size()));
}

class Report {
 public:
  Report(Device& device, int repeats) : device_(device), repeats_(repeats) {}

  template <typename Op>
  void Row(const char* name, int rows, const Moved& moved, const Op& op) {
    const Timing took = Time(repeats_, op);
    std::pair<Moved, int> context = {moved, std::min(device_.num_threads(), rows)};
    // Between the op's runs, as the op finds its memory.
    double floor = 1e30;
    for (int i = 0; i < repeats_; ++i) {
      op();
      floor = std::min(
          floor, Time(1, [&] { device_.ParallelFor(context.second, MoveShare, &context); }).best);
    }
    std::printf("| %s | %d | %.1f | %.1f | %.1f | %.1f | %.1f | %.0f %% |\n", name, rows,
                took.best * 1e6, took.median * 1e6, static_cast<double>(moved.read.size()) / 1e3,
                static_cast<double>(moved.written.size()) / 1e3, floor * 1e6,
                100 * floor / took.best);
    std::fflush(stdout);
  }

 private:
  Device& device_;
  const int repeats_;
};

std::span<std::byte> Part(const Buffer& buffer, int rows, size_t row_bytes) {
  return {buffer.data(), std::min(buffer.bytes(), static_cast<size_t>(rows) * row_bytes)};
}

void Run(Device& device, int repeats) {
  const auto pack = [&](DType type, int64_t n, WeightUse use, Phase phase) {
    const tests::RandomMatrix matrix(type, n, kWidth, 1);
    const kernels::WeightSource parts[] = {matrix.source()};
    return device.Pack(parts, use, phase).value();
  };
  const auto generation = pack(DType::kQ4_1, kQkv, WeightUse::kLinear, Phase::kGeneration);
  const auto prompt = pack(DType::kQ4_1, kQkv, WeightUse::kLinear, Phase::kPrompt);
  const auto head = pack(DType::kQ8_0, kVocab, WeightUse::kHead, Phase::kGeneration);
  const auto floats = [&](int64_t width) {
    return device.Allocate(static_cast<size_t>(kMostRows * width) * sizeof(float));
  };
  const auto hidden = floats(kWidth), rows = floats(kQkv), cos_sin = floats(kDim);
  const auto in = device.Allocate(std::max(device.PreparedBytes(*generation, kMostRows),
                                           device.PreparedBytes(*prompt, kMostRows)));
  const kernels::KvLayout layout = {1, kKvHeads, kDim, device.KvBlockSize(),
                                    device.DefaultKvDType()};
  const auto kv = device.CreateKvCache(layout, kMostRows / layout.block_size);
  const size_t kv_row = static_cast<size_t>(device.KvBlockBytes(layout) / layout.block_size);
  std::vector<int32_t> ids(kMostRows), positions(kMostRows);
  std::vector<int64_t> slots(kMostRows);
  std::vector<float> norm(kWidth, 1.0f), inv_freq(kDim / 2, 0.01f);
  tests::Random random(1);
  for (int32_t& id : ids) id = static_cast<int32_t>(random.Between(0, 1) * (kVocab - 1));
  std::iota(positions.begin(), positions.end(), 0);
  std::iota(slots.begin(), slots.end(), 0);
  for (int i = 0; i < kMostRows * kQkv; ++i) rows->f32()[i] = random.Gaussian();

  const kernels::OpTable& ops = device.ops();
  constexpr size_t kHiddenRow = kWidth * sizeof(float), kRopeRow = kDim * sizeof(float),
                   kQkvRow = kQkv * sizeof(float);
  Report report(device, repeats);
  for (const int n : {1, 16, 64, 256, kMostRows}) {
    const auto bytes = [&](const PackedWeight& weight) { return device.PreparedBytes(weight, n); };
    // Where int8 products read the table, four inputs of a row lie in a line, and rows apart from
    // each other; as many lines in one piece are the floor.
    const std::vector<std::byte> table(static_cast<size_t>(n) * kWidth / 4 * 64);
    report.Row("embed (head's rows)", n, {table, Part(*hidden, n, kHiddenRow)},
               [&] { ops.embed(device, {n, ids.data(), head.get(), 1, hidden->f32()}); });
    const auto norm_for = [&](const char* name, const PackedWeight& consumer) {
      report.Row(name, n, {Part(*hidden, n, kHiddenRow), Part(*in, 1, bytes(consumer))}, [&] {
        ops.norm(device,
                 {n, kWidth, hidden->f32(), nullptr, norm.data(), 1e-5f, &consumer, {in->data()}});
      });
    };
    norm_for("norm, for generation's products", *generation);
    norm_for("norm, for prompts' products", *prompt);
    report.Row("rope table", n, {{}, Part(*cos_sin, n, kRopeRow)}, [&] {
      ops.rope_table(device, {n, positions.data(), kDim, inv_freq.data(), 1, cos_sin->f32()});
    });
    // Floor: q, k and v are read, q is written where it was, k and v as KV.
    const auto kv_written = device.Allocate(static_cast<size_t>(n) * (kHeads * kDim * 4 + kv_row));
    report.Row("rotation, KV written", n,
               {Part(*rows, n, kQkvRow), Part(*kv_written, 1, kv_written->bytes())}, [&] {
                 ops.qkv(device, {n, kHeads, kKvHeads, kDim, rows->f32(), nullptr, nullptr, 0,
                                  cos_sin->f32(), kDim, false, 0.125f, kv.get(), 0, slots.data()});
               });
  }
}

int Main(int argc, char** argv) {
  kernels::DeviceOptions options;
  int repeats = 200;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--isa") {
      options.isa = value;
    } else if (name == "--threads") {
      options.num_threads = std::atoi(value.c_str());
    } else if (name == "--numerics") {
      options.numerics = kernels::NumericsNamed(value);
    } else if (name == "--repeats") {
      repeats = std::max(1, std::atoi(value.c_str()));
    } else {
      argc = 0;
    }
  }
  if (argc % 2 == 0) {
    std::fprintf(stderr, "usage: see the head of row_benchmark.cc\n");
    return 2;
  }
  const auto device = kernels::OpenCpuDevice(options);
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", device.status().ToString().c_str());
    return 1;
  }
  std::printf(
      "%s\n\n| op | rows | best us | median us | KB read | KB written | floor us | share |\n"
      "|---|--:|--:|--:|--:|--:|--:|--:|\n",
      (*device)->Describe().c_str());
  Run(**device, repeats);
  return 0;
}

}  // namespace
}  // namespace modu::benchmarks

int main(int argc, char** argv) { return modu::benchmarks::Main(argc, argv); }
