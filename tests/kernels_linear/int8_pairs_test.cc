// int8 products joined by dot products of bf16 pairs (int8_pairs_join-inl.h), natively and over
// emulated intrinsics: float64 sums by the formula over codes read from the checkpoint, the same
// bits at any number of rows, and what a head keeps of its weights.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/block_codes.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/float_formats.h"
#include "kernels/ref/dequantize.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::AlignedBytes;
using tests::Random;
using tests::RandomMatrix;

constexpr DType kQuantised[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                DType::kQ8_0, DType::kQ4K,  DType::kQ5K,  DType::kQ6K};
constexpr int kOutputs = 45;

struct Candidate {
  std::string name;
  const Int8Kernels* kernels;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> all;
#if defined(MODU_HAVE_EMULATED)
  all.push_back({"emulated", &Int8PairsKernelsEmulated()});
#endif
  const std::string missing = MissingFor(Isa::kAvx512Bf16, ReadMachine());
  if (missing.empty()) all.push_back({"avx512bf16", &Int8KernelsAvx512Bf16()});
  if (!missing.empty()) WARN("skipped natively: " << missing);
  return all;
}

struct Problem {
  Problem(DType dtype, int64_t cols, WeightUse use, int num_rows, int fill = -1, float offset = 0)
      : matrix(dtype, kOutputs, cols, 5, fill), k(cols) {
    const WeightSource parts[] = {matrix.source()};
    weight = CpuWeight::Create(parts, use, Numerics::kInt8, pool, arena,
                               {.int8 = PreparedKind::kInt8Pairs})
                 .value();
    const PreparedLayout& layout = weight->prepared();
    REQUIRE(layout.kind == PreparedKind::kInt8Pairs);
    in = std::make_unique<AlignedBytes>(static_cast<size_t>(layout.Bytes(num_rows)));
    Random random(6);
    for (int r = 0; r < num_rows; ++r) {
      std::vector<float> row(static_cast<size_t>(k));
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] =
            random.Gaussian() * (i % 97 == 0 ? 50.0f : 1.0f) + static_cast<float>(r % 3) + offset;
        if (i / 32 == 1 && r % 4 == 1) row[i] = 0;
      }
      FloatKernelsAvx2().prepare(layout, Row(r), 0, k, row.data());
    }
  }

  std::byte* Row(int r) const { return weight->prepared().Row({in->data()}, r); }
  const Int8PairsGroup& Group(int r, int64_t g) const {
    return reinterpret_cast<const Int8PairsGroup*>(Row(r))[g];
  }
  std::vector<float> Weights(int n) const {
    std::vector<float> row(static_cast<size_t>(k));
    DequantizeRow(matrix.source().dtype, matrix.row(n), k, row.data());
    return row;
  }

  WorkerPool pool{1};
  WeightArena arena{int64_t{1} << 30};
  RandomMatrix matrix;
  int64_t k;
  std::unique_ptr<CpuWeight> weight;
  std::unique_ptr<AlignedBytes> in;
};

/// d, the code less the middle and mu of a group's weights as the formula has them.
struct Centred {
  double d[kGroup], code[kGroup];
  double mu = 0;
};
Centred CentredCodes(DType dtype, const std::byte* row, int64_t g) {
  const StripFormat format = FormatOf(dtype);
  GroupCodes codes = {};
  ReadGroup(dtype, row, g, &codes);
  Centred result;
  for (int i = 0; i < kGroup; ++i) {
    const int code = codes.code[i];
    const double f16 = F16ToFloat(codes.d16);
    switch (format) {
      case StripFormat::kW8F16:
        result.d[i] = f16;
        result.code[i] = code - 128;
        break;
      case StripFormat::kW8Half:
        result.d[i] = i < 16 ? codes.d : codes.m;
        result.code[i] = static_cast<int8_t>(code);
        break;
      default: {
        const bool is_f16 = format == StripFormat::kW4F16;
        const int middle = format == StripFormat::kW8Min ? 16 : 8;
        const float d = is_f16 ? F16ToFloat(codes.d16) : codes.d;
        const float m = is_f16 ? F16ToFloat(codes.m16) : codes.m;
        result.d[i] = d == 0 ? m : d;
        result.code[i] = d == 0 ? 0 : code - middle;
        result.mu = d == 0 ? 1 : Bf16ToFloat(FloatToBf16(m / d + static_cast<float>(middle)));
      }
    }
  }
  return result;
}

/// Of the activations as they are quantised with the weights as they are.
double Exact(const Problem& p, int r, const std::vector<float>& weights) {
  double sum = 0;
  for (int64_t i = 0; i < p.k; ++i) {
    const Int8PairsGroup& a = p.Group(r, i / kGroup);
    sum += weights[static_cast<size_t>(i)] *
           (static_cast<double>(a.scale) * a.values[i % kGroup] + a.centre);
  }
  return sum;
}

double Formula(const Problem& p, int r, int n) {
  double sum = 0;
  for (int64_t g = 0; g < p.k / kGroup; ++g) {
    const Int8PairsGroup& a = p.Group(r, g);
    const Centred w = CentredCodes(p.matrix.source().dtype, p.matrix.row(n), g);
    const double total = Bf16ToFloat(static_cast<uint16_t>(a.pair));
    for (int i = 0; i < kGroup; ++i) {
      sum += w.d[i] * w.code[i] * (static_cast<double>(a.scale) * a.values[i] + a.centre);
    }
    sum += w.d[0] * w.mu * total;
  }
  return sum;
}

}  // namespace

TEST_CASE("int8 products by pairs: the formula, alike at any number of rows") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  const int block = TraitsOf(dtype).block_elements;
  for (const int64_t k : {32, 288, 2304}) {  // one group; more than fit one go
    if (k % block != 0) continue;
    constexpr int kRows = 20;
    const Problem p(dtype, k, WeightUse::kLinear, kRows);
    for (const Candidate& candidate : Candidates()) {
      double squares = 0, error = 0, whole_error = 0;
      for (const Strip& strip : p.weight->strips()) {
        const auto format = static_cast<int>(strip.format);
        AlignedBytes all(sizeof(float) * kTileRows * kStrip);
        candidate.kernels->strip[format](strip.data, p.weight->prepared(), p.in->data(), kRows,
                                         Ahead(), all.floats());
        for (int n = 0; n < strip.columns; ++n) {
          const std::vector<float> weights = p.Weights(strip.column + n);
          for (int r = 0; r < kRows; ++r) {
            const double want = Formula(p, r, strip.column + n);
            const double whole = Exact(p, r, weights);
            const double got = all.floats()[r * kStrip + n];
            squares += want * want;
            error += (got - want) * (got - want);
            whole_error += (got - whole) * (got - whole);
          }
        }
        for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17}) {
          INFO(candidate.name << " " << TraitsOf(dtype).name << " K " << k << " rows " << rows);
          AlignedBytes got(sizeof(float) * kTileRows * kStrip);
          candidate.kernels->strip[format](strip.data, p.weight->prepared(), p.in->data(), rows,
                                           Ahead(), got.floats());
          REQUIRE(std::memcmp(got.data(), all.data(),
                              sizeof(float) * static_cast<size_t>(rows * kStrip)) == 0);
        }
      }
      INFO(candidate.name << " " << TraitsOf(dtype).name << " K " << k);
      CHECK(std::sqrt(error / squares) < 3e-6);
      CHECK(std::sqrt(whole_error / squares) < 3e-3);  // total and mu, rounded
    }
  }
}

TEST_CASE("int8 products by pairs: activations around a common offset") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  constexpr int kRows = 9;
  const Problem p(dtype, 512, WeightUse::kLinear, kRows, -1, 10);
  for (const Candidate& candidate : Candidates()) {
    double squares = 0, error = 0;
    for (const Strip& strip : p.weight->strips()) {
      AlignedBytes got(sizeof(float) * kTileRows * kStrip);
      candidate.kernels->strip[static_cast<int>(strip.format)](
          strip.data, p.weight->prepared(), p.in->data(), kRows, Ahead(), got.floats());
      for (int n = 0; n < strip.columns; ++n) {
        const std::vector<float> weights = p.Weights(strip.column + n);
        for (int r = 0; r < kRows; ++r) {
          const double want = Exact(p, r, weights);
          squares += want * want;
          error += std::pow(got.floats()[r * kStrip + n] - want, 2);
        }
      }
    }
    const double relative = std::sqrt(error / squares);
    INFO(candidate.name << " " << TraitsOf(dtype).name << " error " << relative);
    const bool rounds = HasMinimum(FormatOf(dtype)) && dtype != DType::kQ4_0;  // there mu is 0
    CHECK(relative < (rounds ? 3e-3 : 1e-6));
  }
}

TEST_CASE("int8 products by pairs are the same natively and emulated") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  const std::vector<Candidate> candidates = Candidates();
  for (const int fill : {-1, 0x00, 0xFF, 0x80}) {
    constexpr int kRows = 9;
    Problem p(dtype, 256, WeightUse::kLinear, kRows, fill);
    std::vector<float> row(256, 1.0f);
    row[40] = std::numeric_limits<float>::infinity();
    FloatKernelsAvx2().prepare(p.weight->prepared(), p.Row(4), 0, 256, row.data());
    for (const Strip& strip : p.weight->strips()) {
      AlignedBytes first(sizeof(float) * kTileRows * kStrip);
      for (size_t i = 0; i < candidates.size(); ++i) {
        AlignedBytes got(sizeof(float) * kTileRows * kStrip);
        AlignedBytes& to = i == 0 ? first : got;
        candidates[i].kernels->strip[static_cast<int>(strip.format)](
            strip.data, p.weight->prepared(), p.in->data(), kRows, Ahead(), to.floats());
        for (int at = 0; at < kRows * kStrip; ++at) {
          INFO(candidates[i].name << " " << TraitsOf(dtype).name << " fill " << fill);
          if (at / kStrip == 4) {
            REQUIRE(std::isnan(to.floats()[at]));
          } else {
            REQUIRE(std::isfinite(to.floats()[at]));
            REQUIRE(std::memcmp(to.floats() + at, first.floats() + at, sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("int8 activations in pairs: values about a centre in bf16") {
  constexpr int64_t kCols = 320;
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8Pairs, kCols);
  Random random(10);
  std::vector<float> row(kCols);
  for (size_t i = 0; i < row.size(); ++i) {
    const size_t g = i / kGroup;
    row[i] = random.Gaussian() * std::pow(10.0f, static_cast<float>(g) - 5.0f);
    if (g == 3) row[i] += 1000;
    if (g == 4) row[i] = 0;
    if (g == 5 && i % kGroup == 7) row[i] *= 1e4f;
  }
  AlignedBytes whole(static_cast<size_t>(layout.Bytes(1))),
      pieces(static_cast<size_t>(layout.Bytes(1)));
  FloatKernelsAvx2().prepare(layout, whole.data(), 0, kCols, row.data());
  FloatKernelsAvx2().prepare(layout, pieces.data(), 96, kCols - 96, row.data() + 96);
  FloatKernelsAvx2().prepare(layout, pieces.data(), 0, 96, row.data());
  const auto* const groups = reinterpret_cast<const Int8PairsGroup*>(whole.data());
  CHECK(std::memcmp(whole.data(), pieces.data(), kCols / kGroup * sizeof(*groups)) == 0);
  for (int64_t g = 0; g < kCols / kGroup; ++g) {
    const Int8PairsGroup& a = groups[g];
    INFO("group " << g);
    int sum = 0;
    double total = 0;
    for (int i = 0; i < kGroup; ++i) {
      const double x = row[static_cast<size_t>(g * kGroup + i)];
      const double stands_for = a.centre + static_cast<double>(a.scale) * a.values[i];
      CHECK(std::fabs(stands_for - x) <= a.scale * 0.5001 + std::fabs(x) * 1e-6);
      sum += a.values[i];
      total += stands_for;
    }
    CHECK(Bf16ToFloat(FloatToBf16(a.centre)) == a.centre);
    CHECK(a.pair >> 16 == FloatToBf16(a.centre));
    CHECK(std::fabs(total - (static_cast<double>(a.scale) * sum + 32.0 * a.centre)) <=
          1e-6 * (1 + std::fabs(total)));
    const float rounded = std::fma(a.scale, static_cast<float>(sum), 32 * a.centre);
    CHECK((a.pair & 0xFFFF) == FloatToBf16(rounded));
    CHECK(a.minus_sum == -8 * sum);
  }
}

TEST_CASE("a head for pairs gives its rows exactly as the file has them") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  const Problem p(dtype, 512, WeightUse::kHead, 1);
  std::vector<float> got(512);
  for (int n = 0; n < kOutputs; ++n) {
    INFO(TraitsOf(dtype).name << " row " << n);
    p.weight->DecodeRow(n, got.data());
    REQUIRE(got == p.Weights(n));
  }
}

}  // namespace modu::kernels::cpu
