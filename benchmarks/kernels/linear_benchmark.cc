// Times the matrix products of SmolLM2-135M's shape beside their floor: the larger of
// bytes / measured bandwidth and operations / measured peak of the level's own instruction.
//   linear_benchmark [--isa avx2] [--threads N] [--numerics int8|bf16|exact] [--type Q4_1]
//                    [--head Q8_0] [--rows 1,2,4,...] [--repeats N] [--json FILE]
// A walk is the products of all layers in order: no norms, no attention. Best and median of the
// repeats are printed, in wall time; the machine's other load is the user's affair.
// --json is for benchmarks/plots.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"
#include "benchmarks/kernels/read_bandwidth.h"
#include "benchmarks/kernels/roofline_json.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::benchmarks {
namespace {

using kernels::Device;
using kernels::DType;
using kernels::Numerics;
using kernels::PackedWeight;
using kernels::TraitsOf;
using kernels::WeightSource;
using kernels::WeightUse;

struct Options {
  kernels::DeviceOptions device;
  DType type = DType::kQ4_1, head = DType::kQ8_0;
  std::vector<int> rows = {1, 2, 4, 8, 16, 32, 64, 128, 256};
  int repeats = 15;
  std::string json;
};

bool ParseType(const std::string& name, DType* type) {
  for (int i = 0; i <= static_cast<int>(DType::kQ6K); ++i) {
    if (name == TraitsOf(static_cast<DType>(i)).name) {
      *type = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

bool ParseRows(const std::string& list, std::vector<int>* rows) {
  rows->clear();
  for (const char* p = list.c_str(); p != nullptr; p = std::strchr(p, ',')) {
    if (*p == ',') ++p;
    rows->push_back(std::atoi(p));
    if (rows->back() < 1 || rows->back() > 4096) return false;
  }
  return true;
}

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    bool good = true;
    if (name == "--isa") {
      options->device.isa = value;
    } else if (name == "--threads") {
      options->device.num_threads = std::atoi(value.c_str());
    } else if (name == "--numerics") {
      options->device.numerics = kernels::NumericsNamed(value);
      good = options->device.numerics.has_value();
    } else if (name == "--repeats") {
      options->repeats = std::max(1, std::atoi(value.c_str()));
    } else if (name == "--json") {
      options->json = value;
    } else if (name == "--type") {
      good = ParseType(value, &options->type);
    } else if (name == "--head") {
      good = ParseType(value, &options->head);
    } else {
      good = name == "--rows" && ParseRows(value, &options->rows);
    }
    if (!good) return false;
  }
  return argc % 2 == 1;
}

struct Model {
  static constexpr int kLayers = 30, kWidth = 576, kQkv = 960, kFfn = 1536, kVocab = 49152;
  std::unique_ptr<PackedWeight> qkv[kLayers], output[kLayers], gate_up[kLayers], down[kLayers];
  std::unique_ptr<PackedWeight> head;

  int64_t LayerBytes() const {
    return kLayers *
           (qkv[0]->bytes() + output[0]->bytes() + gate_up[0]->bytes() + down[0]->bytes());
  }
  static double LayerOps() { return 2.0 * kLayers * kWidth * (kQkv + kWidth + 2.0 * kFfn + kFfn); }
  static double HeadOps() { return 2.0 * kVocab * kWidth; }
};

Model MakeModel(Device& device, const Options& options) {
  Model m;
  double seconds = 0;
  const auto pack = [&](DType type, int64_t n, int64_t k, WeightUse use) {
    const tests::RandomMatrix matrix(type, n, k, 1);
    const std::vector<WeightSource> parts(use == WeightUse::kGatedLinear ? 2 : 1, matrix.source());
    const auto start = std::chrono::steady_clock::now();
    auto weight = device.Pack(parts, use).value();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return weight;
  };
  for (int i = 0; i < Model::kLayers; ++i) {
    m.qkv[i] = pack(options.type, Model::kQkv, Model::kWidth, WeightUse::kLinear);
    m.output[i] = pack(options.type, Model::kWidth, Model::kWidth, WeightUse::kLinear);
    m.gate_up[i] = pack(options.type, Model::kFfn, Model::kWidth, WeightUse::kGatedLinear);
    m.down[i] = pack(options.type, Model::kWidth, Model::kFfn, WeightUse::kLinear);
  }
  m.head = pack(options.head, Model::kVocab, Model::kWidth, WeightUse::kHead);
  const auto bytes = static_cast<double>(m.LayerBytes() + m.head->bytes());
  std::printf("packed %.1f MB in %.0f ms\n", bytes / 1e6, seconds * 1e3);
  return m;
}

struct Timing {
  double best, median;
};

double Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <typename Body>
Timing Time(int repeats, const Body& body) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats + 1; ++i) {
    const double start = Now();
    body();
    if (i > 0) seconds.push_back(Now() - start);  // the first one warms up
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2]};
}

/// Prints a row; the roofline keeps it as a point.
void Report(const char* name, int rows, Timing t, int64_t bytes, double ops, Roofline* roofline) {
  const auto size = static_cast<double>(bytes);
  const double floor =
      std::max(size / roofline->read_bytes_per_s, ops * rows / roofline->operations_per_s);
  roofline->points.push_back({name, std::to_string(rows), t.best, size, ops * rows});
  std::printf("%-8s %5d  %8.3f  %8.3f  %7.1f  %7.1f  %8.3f  %4.0f %%  %9.0f\n", name, rows,
              t.best * 1e3, t.median * 1e3, size / t.best / 1e9, ops * rows / t.best / 1e9,
              floor * 1e3, 100 * floor / t.best, rows / t.median);
  std::fflush(stdout);
}

void RunWalks(Device& device, const Model& model, const Options& options, Roofline* roofline) {
  constexpr int64_t kLogitStride = Model::kVocab + 16;  // not a multiple of 4 KB
  const int most = *std::max_element(options.rows.begin(), options.rows.end());
  const auto floats = [&](int64_t width) {
    return device.Allocate(static_cast<size_t>(most * width) * sizeof(float));
  };
  const auto prepared = [&](const PackedWeight& consumer) {
    return device.Allocate(device.PreparedBytes(consumer, most));
  };
  const auto hidden = floats(Model::kWidth), qkv = floats(Model::kQkv),
             logits = floats(kLogitStride);
  const auto in = prepared(*model.qkv[0]), attended = prepared(*model.output[0]),
             inner = prepared(*model.down[0]), last = prepared(*model.head);
  tests::Random random(1);
  for (int i = 0; i < most * Model::kWidth; ++i) hidden->f32()[i] = random.Gaussian();
  const kernels::OpTable& ops = device.ops();
  const auto norm = [&](int rows, const PackedWeight& consumer, const kernels::Buffer& out) {
    ops.norm(device,
             {rows, Model::kWidth, hidden->f32(), nullptr, nullptr, 0, &consumer, {out.data()}});
  };
  const auto linear = [&](int rows, const kernels::Buffer& from, const PackedWeight& weight,
                          float* out, int64_t stride, bool accumulate) {
    ops.linear(device, {rows, {from.data()}, &weight, nullptr, accumulate, out, stride});
  };

  for (const int rows : options.rows) {
    norm(rows, *model.qkv[0], *in);
    norm(rows, *model.output[0], *attended);
    norm(rows, *model.head, *last);
    const Timing layers = Time(options.repeats, [&] {
      for (int i = 0; i < Model::kLayers; ++i) {
        linear(rows, *in, *model.qkv[i], qkv->f32(), Model::kQkv, false);
        linear(rows, *attended, *model.output[i], hidden->f32(), Model::kWidth, true);
        ops.gated_linear(device, {rows,
                                  {in->data()},
                                  model.gate_up[i].get(),
                                  kernels::Activation::kSilu,
                                  model.down[i].get(),
                                  {inner->data()}});
        linear(rows, *inner, *model.down[i], hidden->f32(), Model::kWidth, true);
      }
    });
    Report("layers", rows, layers, model.LayerBytes(), Model::LayerOps(), roofline);
    const Timing head = Time(options.repeats, [&] {
      linear(rows, *last, *model.head, logits->f32(), kLogitStride, false);
    });
    Report("head", rows, head, model.head->bytes(), Model::HeadOps(), roofline);
  }
}

/// One strip of 32 outputs, warm in cache, in samples of microseconds: the best of them is the
/// kernel itself, whatever else the machine does.
void RunStrips(const Options& options, DType type, double operations) {
  kernels::DeviceOptions one = options.device;
  one.num_threads = 1;
  const auto device = kernels::OpenCpuDevice(one).value();
  const tests::RandomMatrix matrix(type, 32, Model::kWidth, 1);
  const WeightSource parts[] = {matrix.source()};
  const auto weight = device->Pack(parts, WeightUse::kLinear).value();
  for (const int rows : options.rows) {
    const auto hidden = device->Allocate(static_cast<size_t>(rows) * Model::kWidth * 4);
    const auto out = device->Allocate(static_cast<size_t>(rows) * 32 * 4);
    const auto in = device->Allocate(device->PreparedBytes(*weight, rows));
    tests::Random random(1);
    for (int i = 0; i < rows * Model::kWidth; ++i) hidden->f32()[i] = random.Gaussian();
    device->ops().norm(
        *device,
        {rows, Model::kWidth, hidden->f32(), nullptr, nullptr, 0, weight.get(), {in->data()}});
    const Timing t = Time(2000, [&] {
      device->ops().linear(*device,
                           {rows, {in->data()}, weight.get(), nullptr, false, out->f32(), 32});
    });
    const double done = 2.0 * 32 * Model::kWidth * rows / t.best;
    std::printf("%-6s %5d rows  %7.1f G operations/s  %4.0f %% of peak  %6.1f GB/s of weights\n",
                TraitsOf(type).name, rows, done / 1e9, 100 * done / operations,
                static_cast<double>(weight->bytes()) / t.best / 1e9);
  }
}

/// What the device multiplies weights of that type in.
Arithmetic ArithmeticOf(const Device& device, DType type) {
  const Numerics numerics = NumericsOf(device.numerics(), kernels::Phase::kGeneration);
  if (numerics == Numerics::kExact) return Arithmetic::kFloat;
  return numerics == Numerics::kInt8 && kernels::IsBlockQuantised(type) ? Arithmetic::kInt8
                                                                        : Arithmetic::kBf16;
}

/// The level that a device opened with `isa` is at; the machine has it.
kernels::cpu::Isa LevelOf(const std::string& isa) {
  using kernels::cpu::Isa;
  for (const Isa level : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (NameOf(level) == isa) return level;
  }
  return kernels::cpu::DetectIsa();
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::fprintf(stderr, "usage: see the head of linear_benchmark.cc\n");
    return 2;
  }
  absl::StatusOr<std::unique_ptr<Device>> opened = kernels::OpenCpuDevice(options.device);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", std::string(opened.status().message()).c_str());
    return 2;
  }
  const std::unique_ptr<Device> device = *std::move(opened);
  const Arithmetic arithmetic = ArithmeticOf(*device, options.type);
  std::printf("%s; layers %s, head %s\n", device->Describe().c_str(), TraitsOf(options.type).name,
              TraitsOf(options.head).name);
  const Peak peak = MeasurePeak(LevelOf(options.device.isa), arithmetic);
  Roofline roofline{"matrix products, " + device->Describe(),
                    MeasureReadBandwidth(*device, size_t{96} << 20, 9).best,
                    peak.instruction,
                    device->num_threads() * peak.operations,
                    {}};
  std::printf("read bandwidth over 96 MiB %.1f GB/s, %s peak %.0f G operations/s\n",
              roofline.read_bytes_per_s / 1e9, peak.instruction, roofline.operations_per_s / 1e9);
  std::printf("one strip in cache, one thread:\n");
  RunStrips(options, options.type, peak.operations);
  RunStrips(options, options.head, peak.operations);
  const Model model = MakeModel(*device, options);
  std::printf("%-8s %5s  %8s  %8s  %7s  %7s  %8s  %6s  %9s\n", "walk", "rows", "best ms", "median",
              "GB/s", "GOP/s", "floor ms", "share", "rows/s");
  RunWalks(*device, model, options, &roofline);
  return options.json.empty() || WriteJson(roofline, options.json) ? 0 : 1;
}

}  // namespace
}  // namespace modu::benchmarks

int main(int argc, char** argv) { return modu::benchmarks::Main(argc, argv); }
