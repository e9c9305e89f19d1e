// The plain backend where a model's answers would not show a slip: how each numerics mode rounds,
// the optional steps of each op, windows, and gaps between rows. Expected values are written out by
// hand or by a second formula.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/float_formats.h"
#include "kernels/ops.h"
#include "tests/catch.h"

namespace modu::kernels {
namespace {

std::unique_ptr<Device> Open(Numerics numerics) {
  DeviceOptions options;
  options.numerics = numerics;
  return OpenRefDevice(options);
}

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& value : out) value = normal(random);
  return out;
}

std::unique_ptr<PackedWeight> PackF32(Device& device, const std::vector<float>& values,
                                      int64_t rows, int64_t cols) {
  const WeightSource source{
      DType::kF32, rows, cols, reinterpret_cast<const std::byte*>(values.data()), nullptr, 0};
  return device.Pack({&source, 1}, WeightUse::kLinear).value();
}

/// Identity as Q8_0 (d = 1): a linear over it shows the prepared activations themselves.
std::unique_ptr<PackedWeight> PackIdentityQ8_0(Device& device, int n) {
  std::vector<std::byte> bytes(static_cast<size_t>(RowBytes(DType::kQ8_0, n)) *
                               static_cast<size_t>(n));
  for (int row = 0; row < n; ++row) {
    for (int block = 0; block < n / 32; ++block) {
      std::byte* at = bytes.data() + (row * (n / 32) + block) * 34;
      at[1] = std::byte{0x3c};
      if (row / 32 == block) at[2 + row % 32] = std::byte{1};
    }
  }
  const WeightSource source{DType::kQ8_0, n, n, bytes.data(), nullptr, 0};
  return device.Pack({&source, 1}, WeightUse::kLinear).value();
}

/// prepare without a norm, then a linear over `weight`.
std::vector<float> Through(Device& device, const PackedWeight& weight,
                           const std::vector<float>& in) {
  const int rows = static_cast<int>(static_cast<int64_t>(in.size()) / weight.cols());
  auto prepared = device.Allocate(device.PreparedBytes(weight, rows));
  std::vector<float> out(static_cast<size_t>(rows * weight.rows()));
  device.ops().norm(device, {rows,
                             static_cast<int>(weight.cols()),
                             in.data(),
                             nullptr,
                             nullptr,
                             0,
                             &weight,
                             {prepared->data()}});
  device.ops().linear(
      device, {rows, {prepared->data()}, &weight, nullptr, false, out.data(), weight.rows()});
  return out;
}

TEST_CASE(
    "int8 rounds activations in groups of 32 to 119.25 steps on either side of zero or a middle") {
  auto device = Open(Numerics::kInt8);
  auto identity = PackIdentityQ8_0(*device, 64);
  std::vector<float> in = Random(64, 1);
  // Each group has its own scale; the second is lopsided, and large beside the first.
  for (size_t i = 32; i < 64; ++i) in[i] = in[i] * 1000 + 700;
  const std::vector<float> out = Through(*device, *identity, in);
  for (size_t group = 0; group < 2; ++group) {
    const auto [low, high] = std::minmax_element(in.begin() + static_cast<int>(group) * 32,
                                                 in.begin() + static_cast<int>(group) * 32 + 32);
    const double middle = group == 0 ? 0 : (static_cast<double>(*low) + *high) / 2;
    const double step = (group == 0 ? std::max<double>(*high, -*low) : *high - middle) / 119.25;
    int exact = 0;
    for (size_t i = group * 32; i < group * 32 + 32; ++i) {
      CHECK(std::fabs(out[i] - in[i]) <= step * 0.5001);
      const double steps = (out[i] - middle) / step;
      CHECK(std::fabs(steps - std::nearbyint(steps)) < 1e-3);
      exact += out[i] == in[i] ? 1 : 0;
    }
    CHECK(exact < 8);  // it does round
  }
  in.assign(64, 0.0f);
  CHECK(Through(*device, *identity, in) == in);
  in.assign(64, -2.5f);  // a group of equal values is exact
  CHECK(Through(*device, *identity, in) == in);
  in[40] = std::numeric_limits<float>::quiet_NaN();
  for (float value : Through(*device, *identity, in)) CHECK(std::isnan(value));
}

TEST_CASE("each mode multiplies with what it says") {
  const std::vector<float> in = Random(96, 2), w = Random(96 * 3, 3);
  for (Numerics numerics : {Numerics::kExact, Numerics::kBf16, Numerics::kInt8}) {
    auto device = Open(numerics);
    auto weight = PackF32(*device, w, 3, 96);
    const std::vector<float> out = Through(*device, *weight, in);
    // Plain weights are never rounded to int8, nor are their activations.
    const auto round = [&](float x) {
      return numerics == Numerics::kExact ? x : Bf16ToFloat(FloatToBf16(x));
    };
    for (size_t n = 0; n < 3; ++n) {
      double sum = 0;
      for (size_t k = 0; k < 96; ++k)
        sum += static_cast<double>(round(in[k])) * round(w[n * 96 + k]);
      CHECK(out[n] == Approx(sum).epsilon(1e-6));
    }
  }
}

TEST_CASE("FP8 rows carry their factor outside of the product") {
  auto device = Open(Numerics::kExact);
  std::vector<std::byte> codes;
  for (int i = 0; i < 2 * 4; ++i)
    codes.push_back(static_cast<std::byte>(FloatToF8E4M3(static_cast<float>(i))));
  const std::vector<float> scales = {0.5f, 3.0f};
  const WeightSource channel{DType::kF8E4M3, 2, 4, codes.data(), scales.data(), 2};
  const WeightSource tensor{DType::kF8E4M3, 2, 4, codes.data(), scales.data(), 1};
  const std::vector<float> in = {1, 10, 100, 1000};
  CHECK(Through(*device, *device->Pack({&channel, 1}, WeightUse::kLinear).value(), in) ==
        std::vector<float>{1605, 22962});
  CHECK(Through(*device, *device->Pack({&tensor, 1}, WeightUse::kLinear).value(), in) ==
        std::vector<float>{1605, 3827});
  const WeightSource both[] = {channel, tensor};
  CHECK(Through(*device, *device->Pack(both, WeightUse::kLinear).value(), in) ==
        std::vector<float>{1605, 22962, 1605, 3827});
}

TEST_CASE("norm picks rows, linear adds bias and accumulates with a stride") {
  auto device = Open(Numerics::kExact);
  std::vector<float> identity(16, 0.0f);
  for (size_t i = 0; i < 4; ++i) identity[i * 5] = 1;
  auto weight = PackF32(*device, identity, 4, 4);
  const std::vector<float> hidden = {9, 9, 9, 9, 1, 2, 3, 4, 0, 0, 0, 2}, gain = {1, 1, 2, 1},
                           bias = {10, 20, 30, 40};
  const int32_t rows[] = {2, 1};
  auto prepared = device->Allocate(device->PreparedBytes(*weight, 2));
  device->ops().norm(
      *device, {2, 4, hidden.data(), rows, gain.data(), 0.0f, weight.get(), {prepared->data()}});
  std::vector<float> out(2 * 6, 1000.0f);
  device->ops().linear(*device,
                       {2, {prepared->data()}, weight.get(), bias.data(), true, out.data(), 6});
  const float rms = std::sqrt(7.5f);
  const std::vector<float> expected = {
      1010,           1020,           1030,           1042,           1000, 1000,
      1010 + 1 / rms, 1020 + 2 / rms, 1030 + 6 / rms, 1040 + 4 / rms, 1000, 1000};
  for (size_t i = 0; i < expected.size(); ++i) CHECK(out[i] == Approx(expected[i]));
}

TEST_CASE("gate and up are two halves, gate first") {
  auto device = Open(Numerics::kExact);
  const std::vector<float> gate = {1, 0, 0, 1}, up = {2, 0, 0, 3};
  const WeightSource parts[] = {
      {DType::kF32, 2, 2, reinterpret_cast<const std::byte*>(gate.data()), nullptr, 0},
      {DType::kF32, 2, 2, reinterpret_cast<const std::byte*>(up.data()), nullptr, 0}};
  auto gate_up = device->Pack(parts, WeightUse::kGatedLinear).value();
  auto down = PackF32(*device, {1, 0, 0, 1}, 2, 2);
  const std::vector<float> in = {1.5f, -0.5f};
  auto prepared = device->Allocate(device->PreparedBytes(*gate_up, 1)),
       gated = device->Allocate(device->PreparedBytes(*down, 1));
  device->ops().norm(*device,
                     {1, 2, in.data(), nullptr, nullptr, 0, gate_up.get(), {prepared->data()}});
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    device->ops().gated_linear(
        *device, {1, {prepared->data()}, gate_up.get(), activation, down.get(), {gated->data()}});
    std::vector<float> out(2);
    device->ops().linear(*device, {1, {gated->data()}, down.get(), nullptr, false, out.data(), 2});
    const auto act = [&](double x) {
      // gelu_tanh is within 1e-3 of the exact Gaussian form.
      return activation == Activation::kSilu ? x / (1 + std::exp(-x))
                                             : 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    };
    CHECK(out[0] == Approx(act(1.5) * 3.0).margin(3e-3));
    CHECK(out[1] == Approx(act(-0.5) * -1.5).margin(3e-3));
  }
}

TEST_CASE("RoPE turns pairs by position, half-split and interleaved, and leaves the rest") {
  auto device = Open(Numerics::kExact);
  constexpr int kDim = 6, kRotary = 4;
  const std::vector<float> inv_freq = {1.0f, 0.25f};
  const int32_t position = 3;
  std::vector<float> cos_sin(kRotary);
  device->ops().rope_table(*device, {1, &position, kRotary, inv_freq.data(), 2.0f, cos_sin.data()});
  CHECK(cos_sin[0] == Approx(2 * std::cos(3.0)));
  CHECK(cos_sin[1] == Approx(2 * std::cos(0.75)));
  CHECK(cos_sin[2] == Approx(2 * std::sin(3.0)));
  CHECK(cos_sin[3] == Approx(2 * std::sin(0.75)));
  auto kv = device->CreateKvCache({1, 1, kDim, device->KvBlockSize(), DType::kF32}, 1);
  for (bool interleaved : {false, true}) {
    std::vector<float> qkv(3 * kDim, 0.0f);
    for (int i = 0; i < kDim; ++i) qkv[static_cast<size_t>(i)] = static_cast<float>(i + 1);
    const int64_t slot = 0;
    QkvParams p{};
    p.num_tokens = p.num_heads = p.num_kv_heads = 1;
    p.head_dim = kDim;
    p.qkv = qkv.data();
    p.cos_sin = cos_sin.data();
    p.rotary_dim = kRotary;
    p.interleaved = interleaved;
    p.q_scale = 0.5f;
    p.kv = kv.get();
    p.slot_mapping = &slot;
    device->ops().qkv(*device, p);
    for (int pair = 0; pair < 2; ++pair) {
      const int a = interleaved ? 2 * pair : pair, b = interleaved ? 2 * pair + 1 : pair + 2;
      const double angle = 3.0 * inv_freq[static_cast<size_t>(pair)], x = a + 1, y = b + 1;
      // attention_scale 2 and q_scale 0.5 cancel.
      CHECK(qkv[static_cast<size_t>(a)] ==
            Approx(x * std::cos(angle) - y * std::sin(angle)).margin(1e-5));
      CHECK(qkv[static_cast<size_t>(b)] ==
            Approx(y * std::cos(angle) + x * std::sin(angle)).margin(1e-5));
    }
    CHECK(qkv[4] == 2.5f);
    CHECK(qkv[5] == 3.0f);
  }
}

TEST_CASE("attention over paged KV: windows, grouped heads, blocks in any order") {
  auto device = Open(Numerics::kExact);
  const int window = GENERATE(0, 1, 5, 40);
  constexpr int kHeads = 4, kKvHeads = 2, kDim = 8, kLength = 70;
  constexpr int64_t kStride = (kHeads + 2 * kKvHeads) * kDim;
  const int block_size = device->KvBlockSize();
  const std::vector<int32_t> table = {4, 0, 2};
  auto kv = device->CreateKvCache({2, kKvHeads, kDim, block_size, DType::kF32}, 5);
  const std::vector<float> original = Random(kLength * kStride, 4);
  std::vector<float> qkv = original;
  std::vector<int64_t> slots;
  for (int t = 0; t < kLength; ++t)
    slots.push_back(int64_t{table[static_cast<size_t>(t / block_size)]} * block_size +
                    t % block_size);
  QkvParams p{};
  p.num_tokens = kLength;
  p.num_heads = kHeads;
  p.num_kv_heads = kKvHeads;
  p.head_dim = kDim;
  p.qkv = qkv.data();
  p.q_scale = 1.0f;
  p.kv = kv.get();
  p.layer = 1;
  p.slot_mapping = slots.data();
  device->ops().qkv(*device, p);
  const int width = kHeads * kDim;
  std::vector<float> identity(static_cast<size_t>(width * width), 0.0f);
  for (int i = 0; i < width; ++i) identity[static_cast<size_t>(i * width + i)] = 1;
  auto consumer = PackF32(*device, identity, width, width);
  auto prepared = device->Allocate(device->PreparedBytes(*consumer, kLength));
  const int32_t cu_seqlens[] = {0, kLength}, seq_lens[] = {kLength};
  AttentionParams a{};
  a.num_tokens = kLength;
  a.num_seqs = 1;
  a.num_heads = kHeads;
  a.num_kv_heads = kKvHeads;
  a.head_dim = kDim;
  a.qkv = qkv.data();
  a.kv = kv.get();
  a.layer = 1;
  a.cu_seqlens = cu_seqlens;
  a.seq_lens = seq_lens;
  a.block_table = table.data();
  a.block_table_stride = 3;
  a.window = window;
  a.consumer = consumer.get();
  a.out = {prepared->data()};
  device->ops().attention(*device, a);
  std::vector<float> out(static_cast<size_t>(kLength * width));
  device->ops().linear(
      *device, {kLength, {prepared->data()}, consumer.get(), nullptr, false, out.data(), width});
  for (int t = 0; t < kLength; ++t) {
    for (int h = 0; h < kHeads; ++h) {
      const auto at = [&](int token, int head, int i) {
        return static_cast<double>(
            original[static_cast<size_t>(token * kStride + head * kDim + i)]);
      };
      const int k_head = kHeads + h / 2, v_head = kHeads + kKvHeads + h / 2;
      std::vector<double> sums(kDim, 0.0);
      double total = 0;
      for (int s = 0; s <= t; ++s) {
        if (window > 0 && t - s >= window) continue;
        double score = 0;
        for (int i = 0; i < kDim; ++i) score += at(t, h, i) * at(s, k_head, i);
        total += std::exp(score);
        for (int i = 0; i < kDim; ++i)
          sums[static_cast<size_t>(i)] += std::exp(score) * at(s, v_head, i);
      }
      for (int i = 0; i < kDim; ++i) {
        REQUIRE(out[static_cast<size_t>(t * width + h * kDim + i)] ==
                Approx(sums[static_cast<size_t>(i)] / total).margin(1e-5));
      }
    }
  }
}

}  // namespace
}  // namespace modu::kernels
