// A whole device whose matrix products go by tiles (the scalar twin): norm, gated linear and linear
// through the op table, as level kAmx runs them. int8 has the bits of the AVX2 device; bf16 agrees
// with float64 sums, and a row's bits are those of the row alone.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/linear_kernels.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
namespace {

using tests::Random;
using tests::RandomMatrix;

constexpr int kWidth = 288, kFeatures = 96, kOutputs = 45, kMostTokens = 33;

const LinearKernels& TwinKernels() {
  static const LinearKernels kernels = {Int8TilesOrVectorsTwin(), FloatKernelsAvx2(),
                                        Bf16StripTwin()};
  return kernels;
}

/// out = down(silu(gate x) * (up x)) of the first `tokens` rows, by the ops of `device`.
std::vector<float> Run(Device& device, DType dtype, int tokens) {
  const RandomMatrix gate(dtype, kFeatures, kWidth, 1), up(dtype, kFeatures, kWidth, 2),
      down(dtype, kOutputs, kFeatures, 3);
  const WeightSource pair[] = {gate.source(), up.source()}, next[] = {down.source()};
  const auto gated = device.Pack(pair, WeightUse::kGatedLinear).value();
  const auto linear = device.Pack(next, WeightUse::kLinear).value();
  Random random(4);
  std::vector<float> hidden(static_cast<size_t>(kMostTokens * kWidth));
  for (float& x : hidden) x = random.Gaussian();
  const auto in = device.Allocate(device.PreparedBytes(*gated, tokens));
  const auto middle = device.Allocate(device.PreparedBytes(*linear, tokens));
  std::vector<float> out(static_cast<size_t>(tokens * kOutputs));
  device.ops().norm(device, {.num_tokens = tokens,
                             .width = kWidth,
                             .hidden = hidden.data(),
                             .rows = nullptr,
                             .weight = nullptr,
                             .eps = 0,
                             .consumer = gated.get(),
                             .out = {in->data()}});
  device.ops().gated_linear(device, {.num_tokens = tokens,
                                     .in = {in->data()},
                                     .weight = gated.get(),
                                     .activation = Activation::kSilu,
                                     .consumer = linear.get(),
                                     .out = {middle->data()}});
  device.ops().linear(device, {.num_tokens = tokens,
                               .in = {middle->data()},
                               .weight = linear.get(),
                               .bias = nullptr,
                               .accumulate = false,
                               .out = out.data(),
                               .out_stride = kOutputs});
  return out;
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
  const DType dtype = GENERATE(DType::kQ4_1, DType::kQ8_0, DType::kBF16, DType::kF8E4M3);
  for (const Numerics numerics : {Numerics::kInt8, Numerics::kBf16, Numerics::kExact}) {
    CpuDevice tiles(Isa::kAvx2, numerics, 2, TwinKernels());
    const auto vectors = OpenCpuDevice({.numerics = numerics, .num_threads = 1, .isa = "avx2"});
    const auto ref = OpenRefDevice({.numerics = numerics});
    INFO(TraitsOf(dtype).name << " numerics " << static_cast<int>(numerics));
    const std::vector<float> all = Run(tiles, dtype, kMostTokens);
    const bool quantised = TraitsOf(dtype).block_elements > 1;
    const bool by_bf16 = numerics == Numerics::kBf16 || (numerics == Numerics::kInt8 && !quantised);
    const std::vector<float> other = Run(**vectors, dtype, kMostTokens);
    CHECK((std::memcmp(all.data(), other.data(), all.size() * sizeof(float)) == 0) == !by_bf16);
    // An activation on the edge between two steps may fall on either side of it.
    const double limit = numerics == Numerics::kExact ? 3e-6 : 2e-3;
    CHECK(RelativeError(all, Run(*ref, dtype, kMostTokens)) < limit);
    for (const int tokens : {1, 7, 8, 17}) {
      const std::vector<float> some = Run(tiles, dtype, tokens);
      CHECK(std::memcmp(some.data(), all.data(), some.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("bf16 pairs are written in pieces, with zeros up to a whole group and nothing after") {
  const int64_t cols = 250;
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kBf16Pairs, cols);
  REQUIRE(layout.row_bytes == 512);
  Random random(5);
  std::vector<float> values(static_cast<size_t>(cols));
  for (float& x : values) x = random.Gaussian();
  values[99] = std::numeric_limits<float>::quiet_NaN();
  std::vector<uint16_t> row(300, 0x7FC1);
  auto* const bytes = reinterpret_cast<std::byte*>(row.data());
  const PrepareFn prepare = FloatKernelsAvx2().prepare;
  prepare(layout, bytes, 100, 150, values.data() + 100);
  prepare(layout, bytes, 0, 100, values.data());
  for (size_t i = 0; i < row.size(); ++i) {
    INFO("column " << i);
    if (i == 99) {
      CHECK(std::isnan(Bf16ToFloat(row[i])));
    } else if (i < 250) {
      CHECK(row[i] == FloatToBf16(values[i]));
    } else {
      CHECK(row[i] == (i < 256 ? 0 : 0x7FC1));
    }
  }
}

}  // namespace modu::kernels::cpu
