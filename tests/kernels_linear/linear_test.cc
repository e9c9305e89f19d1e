// Matrix products of the x86 backend against float64 sums over weights dequantised by kernels/ref
// (the formats' own definitions) and activations rounded as the numerics mode says. Prepared rows
// and outputs beyond what an op may touch are NaN before it runs.
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/float_formats.h"
#include "kernels/ops.h"
#include "kernels/ref/dequantize.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels {
namespace {

using tests::Random;
using tests::RandomMatrix;

/// Beside products of the quantised activations: what whole numbers cut off, a tenth to two fifths
/// of what quantising costs. Their bits are int8_whole_test.cc's affair.
constexpr double kInt8Limit = 2.5e-3;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
#ifdef __SANITIZE_THREAD__
// Which values come out is for the other builds to say; here it is that threads meet, and each row
// costs fifteen times as much.
const std::vector<int> kTokens = {1, 3, 16, 17, 65};
constexpr bool kValuesCount = false;
#else
constexpr bool kValuesCount = true;
const std::vector<int> kTokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65};
#endif

std::unique_ptr<Device> Open(Numerics numerics, int threads = 2) {
  return OpenCpuDevice({.numerics = numerics, .num_threads = threads, .isa = "avx2"}).value();
}

/// Activations with an outlier in some groups, a zero group, and different sizes of rows.
std::vector<float> RandomRows(int rows, int64_t cols, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = random.Gaussian() * (i % 97 == 0 ? 8.0f : 1.0f);
    if (static_cast<int64_t>(i) % cols / 32 == 1 && i / static_cast<size_t>(cols) % 3 == 1) {
      values[i] = 0;
    }
  }
  return values;
}

struct Prepared2 {
  std::unique_ptr<Buffer> buffer;
  Prepared prepared;
};

/// Rows as norm(weight = null) writes them, NaN everywhere else.
Prepared2 Prepare(Device& device, const PackedWeight& consumer, const std::vector<float>& rows,
                  int num_tokens) {
  const size_t bytes = device.PreparedBytes(consumer, num_tokens);
  Prepared2 result{device.Allocate(bytes + 4096), {}};
  float* const all = result.buffer->f32();
  std::fill(all, all + (bytes + 4096) / sizeof(float), kNan);
  result.prepared.data = result.buffer->data();
  device.ops().norm(device, {.num_tokens = num_tokens,
                             .width = static_cast<int>(consumer.cols()),
                             .hidden = rows.data(),
                             .rows = nullptr,
                             .weight = nullptr,
                             .eps = 0,
                             .consumer = &consumer,
                             .out = result.prepared});
  return result;
}

/// The same weights and activations through the plain backend: float64 sums by the formulas.
std::vector<float> Linear(Device& device, const PackedWeight& weight, Prepared in, int num_tokens,
                          const std::vector<float>& bias, const std::vector<float>& residual,
                          int64_t stride) {
  std::vector<float> out(static_cast<size_t>(num_tokens * stride + 64), kNan);
  if (!residual.empty()) {
    for (int t = 0; t < num_tokens; ++t) {
      for (int64_t n = 0; n < weight.rows(); ++n) {
        out[static_cast<size_t>(t * stride + n)] =
            residual[static_cast<size_t>(t * weight.rows() + n)];
      }
    }
  }
  device.ops().linear(device, {.num_tokens = num_tokens,
                               .in = in,
                               .weight = &weight,
                               .bias = bias.empty() ? nullptr : bias.data(),
                               .accumulate = !residual.empty(),
                               .out = out.data(),
                               .out_stride = stride});
  return out;
}

struct Error {
  double relative_rms = 0, worst = 0;  // worst: in RMS of the expected values
};

Error Compare(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double squares = 0, error = 0, worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i])) {
      REQUIRE(std::isnan(got[i]));  // nothing is written beside the outputs
      continue;
    }
    const double difference = std::fabs(static_cast<double>(got[i]) - want[i]);
    REQUIRE(!std::isnan(difference));
    squares += static_cast<double>(want[i]) * want[i];
    error += difference * difference;
    worst = std::max(worst, difference);
  }
  const double rms = std::sqrt(squares / static_cast<double>(got.size()));
  return {std::sqrt(error / squares), worst / rms};
}

struct Shape {
  int64_t n, k;
};

void CheckAgainstRef(Numerics numerics, DType dtype, Shape shape, double limit) {
  INFO(TraitsOf(dtype).name << " N " << shape.n << " K " << shape.k << " numerics "
                            << static_cast<int>(numerics));
  const auto device = Open(numerics);
  const auto ref = OpenRefDevice({.numerics = numerics});
  const RandomMatrix matrix(dtype, shape.n, shape.k, 7);
  const WeightSource parts[] = {matrix.source()};
  const auto weight = device->Pack(parts, WeightUse::kLinear).value();
  const auto ref_weight = ref->Pack(parts, WeightUse::kLinear).value();
  REQUIRE(weight->rows() == shape.n);
  REQUIRE(weight->cols() == shape.k);
  const int most = kTokens.back();
  const std::vector<float> rows = RandomRows(most, shape.k, 11);
  const std::vector<float> bias = RandomRows(1, shape.n, 12);
  const std::vector<float> residual = RandomRows(most, shape.n, 13);
  const int64_t stride = shape.n + 5;

  const Prepared2 ref_in = Prepare(*ref, *ref_weight, rows, most);
  for (const bool full : {false, true}) {
    const std::vector<float> none;
    const std::vector<float> want = Linear(*ref, *ref_weight, ref_in.prepared, most,
                                           full ? bias : none, full ? residual : none, stride);
    std::vector<float> all;
    for (const int tokens : {most, 1, 7}) {
      INFO("tokens " << tokens << " bias and residual " << full);
      const Prepared2 in = Prepare(*device, *weight, rows, tokens);
      const std::vector<float> got = Linear(*device, *weight, in.prepared, tokens,
                                            full ? bias : none, full ? residual : none, stride);
      if (tokens == most) {
        const Error error = Compare(got, want);
        INFO("relative rms " << error.relative_rms << " worst " << error.worst);
        CHECK(error.relative_rms < limit);
        CHECK(error.worst < 12 * limit);
        all = got;
      }
      // A row's bits do not depend on how many rows there are.
      for (int64_t t = 0; t < tokens; ++t) {
        REQUIRE(std::memcmp(got.data() + t * stride, all.data() + t * stride,
                            static_cast<size_t>(shape.n) * sizeof(float)) == 0);
      }
    }
  }
}

}  // namespace

TEST_CASE("linear agrees with float64 sums, in every format and mode") {
  const DType dtype =
      GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kQ4_0, DType::kQ4_1,
               DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4K, DType::kQ5K, DType::kQ6K);
  const int block = TraitsOf(dtype).block_elements;
  for (const int64_t n : {1, 31, 32, 33, 64, 960}) {
    for (const int64_t k : {32, 64, 256, 576, 1536, 2304}) {
      if (k % block != 0 || (n == 960 && k != 576 && k != 256)) continue;
      if (k == 2304 && n != 33) continue;
      if (n == 64 && k == 64) continue;
      if (!kValuesCount && (n == 1 || n == 31 || n == 64 || k == 1536)) continue;
      CheckAgainstRef(Numerics::kExact, dtype, {n, k}, 3e-6);
      CheckAgainstRef(Numerics::kBf16, dtype, {n, k}, 3e-6);
      CheckAgainstRef(Numerics::kInt8, dtype, {n, k}, kInt8Limit);
    }
  }
}

TEST_CASE("a row's bits do not depend on its neighbours, the threads or their number") {
  const DType dtype =
      GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kQ4_0, DType::kQ4_1,
               DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4K, DType::kQ5K, DType::kQ6K);
  const Numerics numerics = GENERATE(Numerics::kExact, Numerics::kBf16, Numerics::kInt8);
  const int64_t n = 71, k = 256;
  INFO(TraitsOf(dtype).name << " numerics " << static_cast<int>(numerics));
  const RandomMatrix matrix(dtype, n, k, 21);
  const WeightSource parts[] = {matrix.source()};
  const std::vector<float> rows = RandomRows(kTokens.back(), k, 22);
  const auto one = Open(numerics, 1);
  const auto alone_weight = one->Pack(parts, WeightUse::kLinear).value();
  std::vector<std::vector<float>> alone;
  for (int t = 0; t < kTokens.back(); ++t) {
    const std::vector<float> row(rows.begin() + t * k, rows.begin() + (t + 1) * k);
    const Prepared2 in = Prepare(*one, *alone_weight, row, 1);
    alone.push_back(Linear(*one, *alone_weight, in.prepared, 1, {}, {}, n));
  }
  for (const int threads : {1, 3}) {
    const auto device = Open(numerics, threads);
    const auto weight = device->Pack(parts, WeightUse::kLinear).value();
    for (const int tokens : kTokens) {
      const Prepared2 in = Prepare(*device, *weight, rows, tokens);
      const std::vector<float> got = Linear(*device, *weight, in.prepared, tokens, {}, {}, n);
      for (int t = 0; t < tokens; ++t) {
        INFO("threads " << threads << " tokens " << tokens << " row " << t);
        REQUIRE(std::memcmp(got.data() + t * n, alone[static_cast<size_t>(t)].data(),
                            static_cast<size_t>(n) * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("parts of different types and odd sizes are stacked along the outputs") {
  const Numerics numerics = GENERATE(Numerics::kExact, Numerics::kBf16, Numerics::kInt8);
  const auto device = Open(numerics);
  const auto ref = OpenRefDevice({.numerics = numerics});
  const int64_t k = 512;
  const RandomMatrix q(DType::kQ4K, 70, k, 31), key(DType::kQ6K, 33, k, 32),
      value(DType::kQ8_0, 1, k, 33), plain(DType::kF32, 40, k, 34);
  const std::vector<std::vector<WeightSource>> cases = {{q.source(), key.source(), value.source()},
                                                        {q.source(), plain.source(), key.source()}};
  for (const auto& parts : cases) {
    const auto weight = device->Pack(parts, WeightUse::kLinear).value();
    const auto ref_weight = ref->Pack(parts, WeightUse::kLinear).value();
    const std::vector<float> rows = RandomRows(9, k, 35);
    const Prepared2 in = Prepare(*device, *weight, rows, 9);
    const Prepared2 ref_in = Prepare(*ref, *ref_weight, rows, 9);
    const int64_t stride = weight->rows() + 3;
    const Error error = Compare(Linear(*device, *weight, in.prepared, 9, {}, {}, stride),
                                Linear(*ref, *ref_weight, ref_in.prepared, 9, {}, {}, stride));
    CHECK(error.relative_rms < (numerics == Numerics::kInt8 ? kInt8Limit : 3e-6));
  }
}

TEST_CASE("FP8 factors of a tensor or of channels come out on the output and in embed") {
  const int64_t n = 45, k = 96;
  const auto device = Open(Numerics::kExact);
  const auto ref = OpenRefDevice({.numerics = Numerics::kExact});
  for (const int64_t count : {int64_t{1}, n}) {
    const RandomMatrix matrix(DType::kF8E4M3, n, k, 41);
    std::vector<float> scales;
    for (int64_t i = 0; i < count; ++i) scales.push_back(0.01f * static_cast<float>(i + 3));
    WeightSource source = matrix.source();
    source.scales = scales.data();
    source.num_scales = count;
    const WeightSource parts[] = {source};
    const auto weight = device->Pack(parts, WeightUse::kHead).value();
    const auto ref_weight = ref->Pack(parts, WeightUse::kHead).value();
    const std::vector<float> rows = RandomRows(4, k, 42);
    const Prepared2 in = Prepare(*device, *weight, rows, 4);
    const Prepared2 ref_in = Prepare(*ref, *ref_weight, rows, 4);
    CHECK(Compare(Linear(*device, *weight, in.prepared, 4, {}, {}, n),
                  Linear(*ref, *ref_weight, ref_in.prepared, 4, {}, {}, n))
              .relative_rms < 3e-6);
    const std::vector<int32_t> ids = {0, 44, 17};
    std::vector<float> got(ids.size() * static_cast<size_t>(k)), want = got;
    device->ops().embed(*device, {3, ids.data(), weight.get(), 1.0f, got.data()});
    ref->ops().embed(*ref, {3, ids.data(), ref_weight.get(), 1.0f, want.data()});
    CHECK(got == want);
  }
}

TEST_CASE("embed reads rows of a packed head exactly as the file has them") {
  const DType dtype =
      GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
               DType::kQ5_1, DType::kQ8_0, DType::kQ4K, DType::kQ5K, DType::kQ6K);
  const Numerics numerics = GENERATE(Numerics::kExact, Numerics::kBf16, Numerics::kInt8);
  const int64_t n = 100, k = 512;
  const auto device = Open(numerics);
  const RandomMatrix matrix(dtype, n, k, 51);
  const WeightSource parts[] = {matrix.source()};
  const auto weight = device->Pack(parts, WeightUse::kHead).value();
  std::vector<int32_t> ids;
  for (int i = 0; i < 100; ++i) ids.push_back((i * 37) % 100);
  std::vector<float> got(static_cast<size_t>(n * k));
  device->ops().embed(*device, {100, ids.data(), weight.get(), 2.0f, got.data()});
  std::vector<float> want(static_cast<size_t>(k));
  bool same = true;
  for (int i = 0; i < 100; ++i) {
    DequantizeRow(dtype, matrix.row(ids[static_cast<size_t>(i)]), k, want.data());
    for (int64_t j = 0; j < k; ++j) {
      same = same && got[static_cast<size_t>(i * k + j)] == 2.0f * want[static_cast<size_t>(j)];
    }
  }
  INFO(TraitsOf(dtype).name);
  CHECK(same);
}

TEST_CASE("gated linear writes the consumer's Prepared, alike for any number of rows") {
  const Numerics numerics = GENERATE(Numerics::kExact, Numerics::kBf16, Numerics::kInt8);
  const Activation activation = GENERATE(Activation::kSilu, Activation::kGeluTanh);
  const DType dtype = GENERATE(DType::kQ4_1, DType::kQ8_0, DType::kQ4K, DType::kBF16);
  const int64_t d = 512, width = 256, n = 96;
  INFO(TraitsOf(dtype).name << " numerics " << static_cast<int>(numerics));
  const RandomMatrix gate(dtype, width, d, 61), up(dtype, width, d, 62), down(dtype, n, width, 63);
  const WeightSource pair[] = {gate.source(), up.source()};
  const WeightSource next[] = {down.source()};
  const std::vector<float> rows = RandomRows(65, d, 64);
  const auto run = [&](Device& device, int tokens, const AttentionParams* next_attention) {
    const auto weight = device.Pack(pair, WeightUse::kGatedLinear).value();
    const auto consumer = device.Pack(next, WeightUse::kLinear).value();
    const Prepared2 in = Prepare(device, *weight, rows, tokens);
    const auto out = device.Allocate(device.PreparedBytes(*consumer, tokens));
    device.ops().gated_linear(device, {.num_tokens = tokens,
                                       .in = in.prepared,
                                       .weight = weight.get(),
                                       .activation = activation,
                                       .consumer = consumer.get(),
                                       .out = {out->data()},
                                       .next_attention = next_attention});
    return Linear(device, *consumer, {out->data()}, tokens, {}, {}, n);
  };
  const auto device = Open(numerics);
  const auto ref = OpenRefDevice({.numerics = numerics});
  const std::vector<float> all = run(*device, 65, nullptr);
  // A value on the edge between two int8 or bf16 steps may fall on either side of it; behind what
  // whole numbers cut off in the first product, many do.
  const double limit = numerics == Numerics::kExact  ? 3e-6
                       : numerics == Numerics::kBf16 ? 2e-3
                                                     : 8e-3;
  CHECK(Compare(all, run(*ref, 65, nullptr)).relative_rms < limit);
  // With KV to fetch meanwhile: one sequence a row, of two blocks.
  const int block_size = device->KvBlockSize();
  const auto kv = device->CreateKvCache({1, 2, 64, block_size, DType::kBF16}, 130);
  std::vector<int32_t> cu_seqlens = {0}, lengths, blocks;
  for (int s = 0; s < 65; ++s) {
    cu_seqlens.push_back(s + 1);
    lengths.push_back(block_size + 1);
    blocks.insert(blocks.end(), {s, s + 65});
  }
  AttentionParams attended{};
  attended.kv = kv.get();
  attended.cu_seqlens = cu_seqlens.data();
  attended.seq_lens = lengths.data();
  attended.block_table = blocks.data();
  attended.block_table_stride = 2;
  for (const int tokens : {1, 2, 7, 64, 65}) {
    attended.num_seqs = attended.num_tokens = tokens;
    const std::vector<float> some = run(*device, tokens, &attended);
    REQUIRE(std::memcmp(some.data(), all.data(), static_cast<size_t>(tokens * n) * sizeof(float)) ==
            0);
  }
}

TEST_CASE("activations that are not finite give NaN rows and leave the others alone") {
  const auto device = Open(Numerics::kInt8);
  for (const DType dtype : {DType::kQ4_1, DType::kQ8_0, DType::kQ6K}) {
    const int64_t n = 64, k = 256;
    const RandomMatrix matrix(dtype, n, k, 71);
    const WeightSource parts[] = {matrix.source()};
    const auto weight = device->Pack(parts, WeightUse::kLinear).value();
    std::vector<float> rows = RandomRows(3, k, 72);
    const Prepared2 clean = Prepare(*device, *weight, rows, 3);
    const std::vector<float> want = Linear(*device, *weight, clean.prepared, 3, {}, {}, n);
    rows[static_cast<size_t>(k + 40)] = std::numeric_limits<float>::infinity();
    const Prepared2 in = Prepare(*device, *weight, rows, 3);
    const std::vector<float> got = Linear(*device, *weight, in.prepared, 3, {}, {}, n);
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      CHECK(got[at] == want[at]);
      CHECK(std::isnan(got[at + static_cast<size_t>(n)]));
      CHECK(got[at + static_cast<size_t>(2 * n)] == want[at + static_cast<size_t>(2 * n)]);
    }
  }
}

TEST_CASE("activations around a common offset: what centres and minimums multiply nearly cancels") {
  const auto device = Open(Numerics::kInt8);
  const auto ref = OpenRefDevice({.numerics = Numerics::kInt8});
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ4K, DType::kQ5K, DType::kQ6K}) {
    INFO(TraitsOf(dtype).name);
    const int64_t n = 64, k = 512;
    const RandomMatrix matrix(dtype, n, k, 91);
    const WeightSource parts[] = {matrix.source()};
    const auto weight = device->Pack(parts, WeightUse::kLinear).value();
    const auto ref_weight = ref->Pack(parts, WeightUse::kLinear).value();
    std::vector<float> rows = RandomRows(9, k, 92);
    for (float& x : rows) x += 10;
    const Prepared2 in = Prepare(*device, *weight, rows, 9);
    const Prepared2 ref_in = Prepare(*ref, *ref_weight, rows, 9);
    const Error error = Compare(Linear(*device, *weight, in.prepared, 9, {}, {}, n),
                                Linear(*ref, *ref_weight, ref_in.prepared, 9, {}, {}, n));
    INFO("relative rms " << error.relative_rms << " worst " << error.worst);
    CHECK(error.relative_rms < 1e-3);
    CHECK(error.worst < 5e-3);
  }
}

TEST_CASE("extreme activations and scales: largest codes, tiny and huge groups") {
  // All activations at one end of their range, but for the one that makes it the end, against all
  // codes at theirs: where int16 sums would overflow.
  const auto device = Open(Numerics::kInt8);
  const auto ref = OpenRefDevice({.numerics = Numerics::kInt8});
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ4K, DType::kQ5K, DType::kQ6K}) {
    for (const int fill : {0x00, 0xFF, 0x80, 0x7F}) {
      const int64_t n = 40, k = 256;
      const RandomMatrix matrix(dtype, n, k, 81, fill);
      const WeightSource parts[] = {matrix.source()};
      const auto weight = device->Pack(parts, WeightUse::kLinear).value();
      const auto ref_weight = ref->Pack(parts, WeightUse::kLinear).value();
      std::vector<float> rows(static_cast<size_t>(5 * k));
      for (size_t i = 0; i < rows.size(); ++i) {
        const size_t row = i / static_cast<size_t>(k);
        rows[i] = row == 0   ? (i % 32 == 13 ? -3.0f : 3.0f)
                  : row == 1 ? (i % 32 == 13 ? 3.0f : -3.0f)
                  : row == 2 ? (i % 2 == 0 ? 5.0f : -5.0f)
                  : row == 3 ? 1e-30f
                             : 1e20f;
      }
      const Prepared2 in = Prepare(*device, *weight, rows, 5);
      const Prepared2 ref_in = Prepare(*ref, *ref_weight, rows, 5);
      const std::vector<float> got = Linear(*device, *weight, in.prepared, 5, {}, {}, n);
      const std::vector<float> want = Linear(*ref, *ref_weight, ref_in.prepared, 5, {}, {}, n);
      std::vector<float> weights(static_cast<size_t>(k));
      for (size_t i = 0; i < got.size() - 64; ++i) {
        INFO(TraitsOf(dtype).name << " fill " << fill << " output " << i);
        // Beside what is summed, not beside a sum that may cancel; smaller rows count as zeros.
        DequantizeRow(dtype, matrix.row(static_cast<int64_t>(i) % n), k, weights.data());
        double size = 1e-24;
        for (const float w : weights) {
          size += std::fabs(w * rows[i / static_cast<size_t>(n) * static_cast<size_t>(k)]);
        }
        REQUIRE(std::fabs(static_cast<double>(got[i]) - want[i]) <=
                3e-3 * size);  // Q8_0 codes of 1
      }
    }
  }
}

TEST_CASE("a set of instructions that the machine lacks or nobody knows is refused") {
  const auto unknown = OpenCpuDevice({.isa = "sse9"});
  REQUIRE(!unknown.ok());
  CHECK(unknown.status().message() == "isa: no such set as sse9");
  CHECK(OpenCpuDevice({.isa = "ref"}).ok());
  CHECK(OpenCpuDevice({.num_threads = 3, .isa = "avx2"}).value()->Describe() ==
        "cpu avx2, 3 threads, int8");
  CHECK(
      OpenCpuDevice({.num_threads = 3, .isa = "avx2", .packs_twice = false}).value()->Describe() ==
      "cpu avx2, 3 threads, int8");
  CHECK(NumericsNamed("phased") == Numerics::kPhased);
  CHECK(NumericsNamed("exact") == Numerics::kExact);
  CHECK(!NumericsNamed("auto").has_value());
  const std::string missing = cpu::MissingFor(cpu::Isa::kAmx, cpu::ReadMachine());
  const auto amx = OpenCpuDevice({.num_threads = 1, .isa = "amx"});
  if (missing.empty()) {
    CHECK(amx.value()->Describe() == "cpu amx, 1 thread, phased");  // fastest there
    CHECK(OpenCpuDevice({.num_threads = 1, .packs_twice = false}).value()->Describe() ==
          "cpu amx, 1 thread, bf16");
    CHECK(OpenCpuDevice({.numerics = Numerics::kInt8, .num_threads = 1}).value()->Describe() ==
          "cpu amx, 1 thread, int8");
  } else {
    REQUIRE(!amx.ok());
    CHECK(amx.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(amx.status().message() == "isa: amx needs what this machine lacks: " + missing);
  }
}

}  // namespace modu::kernels
