// A whole device whose matrix products go by tiles (the scalar twin) or dot products of bf16: norm,
// gated linear and linear through the op table, as levels kAmx and kAvx512Bf16 run them. int8 has
// the bits of the AVX2 device, bf16 agrees with float64 sums, and a row's bits are those of the row
// alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "tests/catch.h"
#include "tests/kernels_linear/feed_forward.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
namespace {

using tests::Random;
using tests::RandomMatrix;

constexpr int kWidth = 288, kFeatures = 96, kOutputs = 45, kMostTokens = 33;
constexpr int kTokens = 300;  // more than one range of rows

const LinearKernels& TwinKernels() {
  static const LinearKernels kernels = {Int8KernelsAvx2(), FloatKernelsAvx2(),
                                        Bf16TileKernelsTwin()};
  return kernels;
}

/// Those of tiles, and of dot products of bf16 where they can run.
std::vector<const LinearKernels*> BothKernels() {
  std::vector<const LinearKernels*> both = {&TwinKernels()};
  FloatStripFn dots = nullptr;
#if defined(MODU_HAVE_EMULATED)
  dots = Bf16DotsEmulated();
#endif
  if (MissingFor(Isa::kAvx512Bf16, ReadMachine()).empty()) dots = Bf16DotsAvx512Bf16();
  static const LinearKernels kernels = {Int8KernelsAvx2(), FloatKernelsAvx2(), {}, dots};
  if (dots != nullptr) both.push_back(&kernels);
  return both;
}

std::vector<float> Run(Device& device, DType dtype, int tokens) {
  return tests::Run(device, {dtype, kWidth, kFeatures, kOutputs}, tokens);
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& want) {
  double squares = 0, error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    squares += static_cast<double>(want[i]) * want[i];
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
  }
  return std::sqrt(error / squares);
}

}  // namespace

TEST_CASE("a device over tiles: the AVX2 device's bits in int8, float64's values in bf16") {
  const LinearKernels& kernels = *GENERATE(from_range(BothKernels()));
  const DType dtype = GENERATE(DType::kQ4_1, DType::kQ8_0, DType::kBF16, DType::kF8E4M3);
  for (const Numerics numerics : {Numerics::kInt8, Numerics::kBf16, Numerics::kExact}) {
    CpuDevice tiles(Isa::kAvx2, numerics, 2, kernels, kAttentionAvx2);
    const auto vectors = OpenCpuDevice({.numerics = numerics, .num_threads = 1, .isa = "avx2"});
    const auto ref = OpenRefDevice({.numerics = numerics});
    INFO(TraitsOf(dtype).name << " numerics " << static_cast<int>(numerics));
    const std::vector<float> all = Run(tiles, dtype, kMostTokens);
    const bool quantised = TraitsOf(dtype).block_elements > 1;
    const bool by_bf16 = numerics == Numerics::kBf16 || (numerics == Numerics::kInt8 && !quantised);
    const std::vector<float> other = Run(**vectors, dtype, kMostTokens);
    CHECK((std::memcmp(all.data(), other.data(), all.size() * sizeof(float)) == 0) == !by_bf16);
    // An activation on the edge between two steps may fall on either side of it, and int8's sums
    // are whole numbers.
    const double limit = numerics == Numerics::kExact  ? 3e-6
                         : numerics == Numerics::kBf16 ? 2e-3
                                                       : 8e-3;
    CHECK(RelativeError(all, Run(*ref, dtype, kMostTokens)) < limit);
    for (const int tokens : {1, 7, 8, 17}) {
      const std::vector<float> some = Run(tiles, dtype, tokens);
      CHECK(std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0);
    }
  }
}

namespace {

/// down(gelu(gate x + b) * (up x + b')) + b'' on top of 0.5, x = norm of gathered rows, by the ops
/// of `device`; the linear has two parts.
std::vector<float> RunWhole(Device& device, DType gate_type, DType down_type, int tokens,
                            int in_width = 64) {
  constexpr int kMiddle = 96, kFirst = 40, kSecond = 33, kOut = kFirst + kSecond;
  const RandomMatrix gate(gate_type, kMiddle, in_width, 1), up(gate_type, kMiddle, in_width, 2),
      first(down_type, kFirst, kMiddle, 3), second(down_type, kSecond, kMiddle, 4);
  const WeightSource pair[] = {gate.source(), up.source()},
                     parts[] = {first.source(), second.source()};
  const auto gated = device.Pack(pair, WeightUse::kGatedLinear).value();
  const auto linear = device.Pack(parts, WeightUse::kLinear).value();
  Random random(5);
  std::vector<float> hidden(static_cast<size_t>(kTokens * in_width)),
      weight(static_cast<size_t>(in_width)), bias(2 * kMiddle), out_bias(kOut);
  for (auto* const values : {&hidden, &weight, &bias, &out_bias}) {
    for (float& x : *values) x = random.Gaussian();
  }
  std::vector<int32_t> rows;
  for (int t = 0; t < tokens; ++t) rows.push_back((t * 7) % kTokens);
  const auto in = device.Allocate(device.PreparedBytes(*gated, tokens));
  const auto middle = device.Allocate(device.PreparedBytes(*linear, tokens));
  std::vector<float> out(static_cast<size_t>(tokens * kOut), 0.5f);
  device.ops().norm(device, {.num_tokens = tokens,
                             .width = in_width,
                             .hidden = hidden.data(),
                             .rows = rows.data(),
                             .weight = weight.data(),
                             .eps = 1e-5f,
                             .consumer = gated.get(),
                             .out = {in->data()}});
  device.ops().gated_linear(device, {.num_tokens = tokens,
                                     .in = {in->data()},
                                     .weight = gated.get(),
                                     .activation = Activation::kGeluTanh,
                                     .consumer = linear.get(),
                                     .out = {middle->data()},
                                     .bias = bias.data()});
  device.ops().linear(device, {.num_tokens = tokens,
                               .in = {middle->data()},
                               .weight = linear.get(),
                               .bias = out_bias.data(),
                               .accumulate = true,
                               .out = out.data(),
                               .out_stride = kOut});
  return out;
}

}  // namespace

TEST_CASE("a device over tiles: mixed formats, biases, parts, gathered rows and many of them") {
  const auto [numerics, gate_type, down_type] =
      GENERATE(table<Numerics, DType, DType>({{Numerics::kBf16, DType::kQ4_1, DType::kQ8_0},
                                              {Numerics::kBf16, DType::kF8E4M3, DType::kQ4_1},
                                              {Numerics::kInt8, DType::kQ4_1, DType::kQ4_1},
                                              {Numerics::kInt8, DType::kQ4_0, DType::kQ8_0},
                                              {Numerics::kInt8, DType::kQ8_0, DType::kQ5_1},
                                              {Numerics::kInt8, DType::kBF16, DType::kQ4_1},
                                              {Numerics::kInt8, DType::kQ4_1, DType::kBF16}}));
  INFO(TraitsOf(gate_type).name << " then " << TraitsOf(down_type).name);
  const auto ref = OpenRefDevice({.numerics = numerics});
  const std::vector<float> want = RunWhole(*ref, gate_type, down_type, kTokens);
  std::vector<float> all;
  for (const int workers : {1, 2}) {
    CpuDevice tiles(Isa::kAvx2, numerics, workers, TwinKernels(), kAttentionAvx2);
    for (const int tokens : {kTokens, 1, 2, 17, 64, 130}) {
      INFO(workers << " workers, " << tokens << " tokens");
      const std::vector<float> got = RunWhole(tiles, gate_type, down_type, tokens);
      if (all.empty()) {
        all = got;
        CHECK(RelativeError(all, want) < (numerics == Numerics::kInt8 ? 8e-3 : 2e-3));
      }
      CHECK(std::memcmp(got.data(), all.data(), got.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a device over tiles: K so wide that it goes in chunks, each times several strips") {
  const DType dtype = GENERATE(DType::kQ8_0, DType::kBF16);
  constexpr int kWideTokens = 70, kLevels = 2;
  const tests::FeedForward blocks[] = {{dtype, 32, 8192, 45}, {dtype, 8192, 32, 13}};
  for (const tests::FeedForward& block : blocks) {
    INFO(TraitsOf(dtype).name << " width " << block.width);
    const auto ref = OpenRefDevice({.numerics = Numerics::kBf16});
    const std::vector<float> want = tests::Run(*ref, block, kWideTokens);
    std::vector<float> all;
    for (int level = 0; level < kLevels; ++level) {
      if (level > 0 && !MissingFor(Isa::kAmx, ReadMachine()).empty()) continue;
      const LinearKernels amx = {Int8KernelsAvx2(), FloatKernelsAvx2(), Bf16TileKernelsAmx()};
      for (const int workers : {1, 3}) {
        CpuDevice tiles(Isa::kAvx2, Numerics::kBf16, workers, level == 0 ? TwinKernels() : amx,
                        kAttentionAvx2);
        for (const int tokens : {kWideTokens, 1, 33, 65}) {
          if (level == 0 && workers > 1 && tokens < kWideTokens) continue;  // the twin takes long
          INFO("level " << level << ", " << workers << " workers, " << tokens << " tokens");
          const std::vector<float> got = tests::Run(tiles, block, tokens);
          if (all.empty()) {
            all = got;
            CHECK(RelativeError(all, want) < 2e-3);
          }
          CHECK(std::memcmp(got.data(), all.data(), got.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE(
    "a device over tiles: gates of wide K for a consumer of tiles and of int8, with factors") {
  constexpr int kWideTokens = 70, kWide = 8192;
  const auto [numerics, gate_type] =
      GENERATE(table<Numerics, DType>({{Numerics::kBf16, DType::kF8E4M3},  // factors on outputs
                                       {Numerics::kInt8, DType::kBF16}}));
  INFO(TraitsOf(gate_type).name);
  const auto ref = OpenRefDevice({.numerics = numerics});
  const std::vector<float> want = RunWhole(*ref, gate_type, DType::kQ4_1, kWideTokens, kWide);
  std::vector<float> all;
  for (const int workers : {1, 3}) {
    CpuDevice tiles(Isa::kAvx2, numerics, workers, TwinKernels(), kAttentionAvx2);
    const std::vector<float> got = RunWhole(tiles, gate_type, DType::kQ4_1, kWideTokens, kWide);
    if (all.empty()) {
      all = got;
      CHECK(RelativeError(all, want) < (numerics == Numerics::kInt8 ? 8e-3 : 2e-3));
    }
    CHECK(std::memcmp(got.data(), all.data(), got.size() * sizeof(float)) == 0);
  }
  CpuDevice alone(Isa::kAvx2, numerics, 1, TwinKernels(), kAttentionAvx2);
  const std::vector<float> one = RunWhole(alone, gate_type, DType::kQ4_1, 1, kWide);
  CHECK(std::memcmp(one.data(), all.data(), one.size() * sizeof(float)) == 0);
}

TEST_CASE(
    "rows of bf16 tiles, in pieces or by blocks: pairs of inputs, zeros up to a whole group") {
  const int64_t cols = 250;
  constexpr int kRows = 19;
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kBf16Tiles, cols);
  REQUIRE(layout.block_rows == 16);
  REQUIRE(layout.Bytes(kRows) == 2 * layout.block_bytes);
  REQUIRE(layout.block_bytes == 8 * 1024 + 64);  // not a multiple of 4096
  Random random(5);
  std::vector<float> values(static_cast<size_t>(cols * kRows));
  for (float& x : values) x = random.Gaussian();
  values[99] = std::numeric_limits<float>::quiet_NaN();
  // Denormals: to tiles they are zeros, also those that would round up to a normal number.
  const std::pair<size_t, uint32_t> denormals[] = {{3, 0x007FFFFFu}, {248, 0x807FFFFFu}, {249, 1u}};
  for (const auto& [at, bits] : denormals) std::memcpy(&values[at], &bits, sizeof(bits));
  std::vector<uint16_t> by_rows(static_cast<size_t>(layout.Bytes(kRows) / 2), 0x7FC1);
  auto by_blocks = by_rows;
  const auto prepared = [](std::vector<uint16_t>& of) {
    return Prepared{reinterpret_cast<std::byte*>(of.data())};
  };
  const PrepareFn prepare = FloatKernelsAvx2().prepare;
  for (int r = 0; r < kRows; ++r) {
    const float* const row = values.data() + r * cols;
    prepare(layout, layout.Row(prepared(by_rows), r), 100, 150, row + 100);
    prepare(layout, layout.Row(prepared(by_rows), r), 0, 100, row);
  }
  for (int r = 0; r < kRows; r += 16) {
    for (const auto& [first, last] : {std::pair<int64_t, int64_t>{3, 8}, {0, 3}}) {
      Bf16TileKernelsTwin().prepare(layout, layout.Row(prepared(by_blocks), r), first, last,
                                    std::min(16, kRows - r), values.data() + r * cols, cols);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int64_t k = 0; k < 256; ++k) {
      const int64_t at = r / 16 * layout.block_bytes / 2 + k / 2 * 32 + r % 16 * 2 + k % 2;
      INFO("row " << r << " column " << k);
      const uint16_t got = by_rows[static_cast<size_t>(at)];
      const uint16_t block = by_blocks[static_cast<size_t>(at)];
      if (r == 0 && k == 99) {
        CHECK(std::isnan(Bf16ToFloat(got)));
        CHECK(std::isnan(Bf16ToFloat(block)));
      } else {
        const size_t from = static_cast<size_t>(r * cols + k);
        const bool denormal = k < cols && std::fpclassify(values[from]) == FP_SUBNORMAL;
        const int zero = denormal && std::signbit(values[from]) ? 0x8000 : 0;
        CHECK(got == (k < cols && !denormal ? FloatToBf16(values[from]) : zero));
        CHECK(block == got);
      }
    }
  }
  // Rows that were not written are as they were.
  CHECK(by_rows[static_cast<size_t>(layout.block_bytes / 2 + 3 * 2)] == 0x7FC1);
}

}  // namespace modu::kernels::cpu
