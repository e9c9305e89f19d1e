// int8 products in whole numbers (int8_join-inl.h) on every set that runs here: the formula over
// codes read from the checkpoint in 64-bit integers, bit by bit; its distance from the products it
// stands for; sums at the ends of their range; and what packing and preparing promise for it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/block_codes.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_finisher.h"
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
  const char* name;
  const Int8Kernels* kernels;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> all = {{"avx2", &Int8KernelsAvx2()}};
#if defined(MODU_HAVE_EMULATED)
  all.push_back({"emulated avx512", &Int8KernelsEmulated()});
  all.push_back({"emulated, Winograd's", &Int8WinogradEmulated()});
#endif
  if (DetectIsa() >= Isa::kAvx512) {
    all.push_back({"avx512", &Int8KernelsAvx512()});
    all.push_back({"avx512, Winograd's", &Int8WinogradAnyRowsAvx512()});
  }
  return all;
}

/// What prepared.h says of crosses.
uint32_t Crosses(const Int8Pair& a) {
  int64_t sums[2] = {0, 0};
  for (int i = 0; i < 2 * kGroup; ++i) {
    if (i % 8 < 4) sums[i / kGroup] -= (a.values[i] + 128) * a.values[i + 4];
  }
  return static_cast<uint32_t>(sums[1] * 65536 + sums[0]);
}

/// What prepared.h says of a group of a row that is quantised as a whole.
struct GroupSteps {
  double scale, centre;
};
std::vector<GroupSteps> StepsOf(const std::vector<float>& row) {
  struct Range {
    float largest, middle, from_middle;
  };
  std::vector<Range> ranges;
  double squares = 0;  // of the groups' largest values
  for (auto group = row.begin(); group != row.end(); group += kGroup) {
    const auto [low, high] = std::minmax_element(group, group + kGroup);
    const float middle = 0.5f * *low + 0.5f * *high;
    ranges.push_back({std::max(*high, -*low), middle, std::max(*high - middle, middle - *low)});
    squares += static_cast<double>(ranges.back().largest) * ranges.back().largest;
  }
  std::vector<GroupSteps> steps;
  for (const Range& x : ranges) {
    const double gain = static_cast<double>(x.largest) * x.largest -
                        static_cast<double>(x.from_middle) * x.from_middle;
    const bool has_centre = squares > 0 && gain >= 0.015 * squares;
    steps.push_back(
        {(has_centre ? x.from_middle : x.largest) / kInt8Steps, has_centre ? x.middle : 0.0f});
  }
  return steps;
}

/// The halves of a dword.
int Half(uint32_t dword, int g) { return static_cast<int16_t>(dword >> 16 * g); }

struct Problem {
  Problem(DType dtype, int64_t cols, WeightUse use, int num_rows, int fill = -1)
      : matrix(dtype, kOutputs, cols, 5, fill), source(matrix.source()), k(cols) {
    Prepare(use, num_rows);
  }
  Problem(DType dtype, int64_t cols, const WeightSource& weights, int num_rows)
      : matrix(dtype, 1, cols, 5), source(weights), k(cols) {
    Prepare(WeightUse::kLinear, num_rows);
  }

  void Prepare(WeightUse use, int num_rows) {
    weight = CpuWeight::Create({&source, 1}, use, Numerics::kInt8, pool, arena).value();
    REQUIRE(weight->prepared().kind == PreparedKind::kInt8);
    in = std::make_unique<AlignedBytes>(static_cast<size_t>(weight->prepared().Bytes(num_rows)));
    Random random(6);
    for (int r = 0; r < num_rows; ++r) {
      std::vector<float> row(static_cast<size_t>(k));
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = random.Gaussian() * (i % 97 == 0 ? 50.0f : 1.0f) + static_cast<float>(r % 3);
        if (i / 32 == 1 && r % 4 == 1) row[i] = 0;
      }
      Set(r, row);
      values.push_back(std::move(row));
    }
  }

  void Set(int r, const std::vector<float>& row) {
    steps.resize(std::max(steps.size(), static_cast<size_t>(r) + 1));
    steps[static_cast<size_t>(r)] = StepsOf(row);
    FloatKernelsAvx2().prepare(weight->prepared(), Row(r), 0, k, row.data());
  }
  std::byte* Row(int r) const { return weight->prepared().Row({in->data()}, r); }
  int64_t groups() const { return k / kGroup; }
  const Int8Pair& Pair(int r, int64_t g) const {
    return reinterpret_cast<const Int8Pair*>(Row(r))[g / 2];
  }
  double Unit(int r) const { return *RowUnit(weight->prepared(), Row(r)); }
  /// Of group g as it was quantised.
  const GroupSteps& Steps(int r, int64_t g) const {
    return steps[static_cast<size_t>(r)][static_cast<size_t>(g)];
  }
  const std::byte* RowOf(int n) const { return source.data + n * RowBytes(source.dtype, k); }
  std::vector<float> Weights(int n) const {
    std::vector<float> row(static_cast<size_t>(k));
    DequantizeRow(source.dtype, RowOf(n), k, row.data());
    return row;
  }
  /// The dword of group g's pair for output n in array `part` of the scales, and the output's unit.
  uint32_t Factors(int64_t g, int n, int part) const {
    const Strip& strip = weight->strips()[static_cast<size_t>(n / kStrip)];
    // A pair begins with the second group.
    const std::byte* const codes = strip.data + CodesInChunks(strip.format, g / 2 * 2 + 1);
    uint32_t dword;
    std::memcpy(&dword, codes + 2 * CodeBytes(strip.format) + 128 * part + 4 * (n % kStrip), 4);
    return dword;
  }
  float OutputUnit(int64_t g, int n) const {
    const Strip& strip = weight->strips()[static_cast<size_t>(n / kStrip)];
    float unit;
    const int64_t first = g / (2 * kChunkPairs) * (2 * kChunkPairs);
    std::memcpy(
        &unit, strip.data + CodesInChunks(strip.format, first + 1) - kUnitsBytes + 4 * (n % kStrip),
        4);
    return unit;
  }

  WorkerPool pool{1};
  WeightArena arena{int64_t{1} << 30};
  RandomMatrix matrix;
  WeightSource source;
  int64_t k;
  std::unique_ptr<CpuWeight> weight;
  std::unique_ptr<AlignedBytes> in;
  std::vector<std::vector<float>> values;  // the rows, before they are quantised
  std::vector<std::vector<GroupSteps>> steps;
};

/// What the formula has of a format.
struct Form {
  int middle, shift, parts;
  bool has_minimum;
};
Form FormOf(DType dtype) {
  switch (FormatOf(dtype)) {
    case StripFormat::kW8F16:
      return {128, 4, 1, false};
    case StripFormat::kW8Min:
      return {16, 1, 1, true};
    case StripFormat::kW8Half:
      return {0, 1, 2, false};
    default:
      return {8, 0, 1, true};
  }
}

int64_t Rounded(int64_t x, int shift) {
  return shift == 0 ? x : (x + (int64_t{1} << (shift - 1))) >> shift;
}

/// The sums of one row and output in 64 bits, chunk by chunk.
std::vector<int64_t> WholeSums(const Problem& p, int r, int n) {
  const DType dtype = p.source.dtype;
  const Form form = FormOf(dtype);
  std::vector<int64_t> sums;
  for (int64_t g = 0; g < p.groups(); ++g) {
    if (g % (2 * kChunkPairs) == 0) sums.push_back(0);
    GroupCodes codes = {};
    ReadGroup(dtype, p.RowOf(n), g, &codes);
    const Int8Pair& a = p.Pair(r, g);
    const auto half = static_cast<int>(g % 2);
    for (int part = 0; part < form.parts; ++part) {
      const int inputs = kGroup / form.parts;
      int64_t dot = 0, sum = 0;
      for (int i = part * inputs; i < (part + 1) * inputs; ++i) {
        const int q =
            form.parts == 2 ? static_cast<int8_t>(codes.code[i]) : codes.code[i] - form.middle;
        dot += q * a.values[half * kGroup + i];
        sum += q;
      }
      const int64_t x = Rounded(dot, form.shift);
      REQUIRE(std::abs(x) <= 32767);
      const int64_t scaled = Rounded(x * Half(a.scales, half), 15);
      const int64_t d = Half(p.Factors(g, n, part), half);
      const int64_t of_centre = Rounded(sum * (128 >> form.shift) * 8 * d, 15);
      sums.back() += scaled * d + of_centre * Half(a.centres, half);
    }
    if (form.has_minimum) {
      sums.back() += int64_t{Half(a.totals, half)} * Half(p.Factors(g, n, form.parts), half);
    }
  }
  return sums;
}

float Formula(const Problem& p, int r, int n) {
  float out = 0;
  const std::vector<int64_t> sums = WholeSums(p, r, n);
  for (size_t chunk = 0; chunk < sums.size(); ++chunk) {
    REQUIRE(std::abs(sums[chunk]) <= std::numeric_limits<int32_t>::max());
    const float unit = p.OutputUnit(static_cast<int64_t>(chunk) * 2 * kChunkPairs, n);
    out = std::fma(static_cast<float>(sums[chunk]) * unit, static_cast<float>(p.Unit(r)), out);
  }
  return out;
}

/// Of the weights as they are with the activations as they are, and as they are quantised.
struct Ideal {
  double exact = 0, quantised = 0;
};
Ideal IdealOf(const Problem& p, int r, const std::vector<float>& weights) {
  Ideal sum;
  for (int64_t i = 0; i < p.k; ++i) {
    const int64_t g = i / kGroup;
    const double value = p.Pair(r, g).values[g % 2 * kGroup + i % kGroup];
    const double w = weights[static_cast<size_t>(i)];
    sum.quantised += w * (p.Steps(r, g).scale * value + p.Steps(r, g).centre);
    sum.exact += w * p.values[static_cast<size_t>(r)][static_cast<size_t>(i)];
  }
  return sum;
}

}  // namespace

TEST_CASE("int8 products in whole numbers: the formula's bits at any number of rows") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  const int block = TraitsOf(dtype).block_elements;
  // One group; odd numbers, of 25 pairs too; more than one chunk.
  for (const int64_t k : {32, 288, 1568, 2304}) {
    if (k % block != 0) continue;
    constexpr int kRows = 20;
    const Problem p(dtype, k, WeightUse::kLinear, kRows);
    for (int chunk = 0; chunk < ChunksOf(p.groups()) && k > 32; ++chunk) {
      uint32_t centred = 0;
      for (int r = 0; r < kRows; ++r)
        centred |= CentredPairs(RowUnit(p.weight->prepared(), p.Row(r)), chunk);
      CHECK(centred != 0);
    }
    double quantising = 0, error = 0;
    AlignedBytes want(sizeof(float) * kRows * 2 * kStrip);
    for (int n = 0; n < kOutputs; ++n) {
      const std::vector<float> weights = p.Weights(n);
      for (int r = 0; r < kRows; ++r) {
        const float whole = Formula(p, r, n);
        want.floats()[(n / kStrip * kRows + r) * kStrip + n % kStrip] = whole;
        const Ideal ideal = IdealOf(p, r, weights);
        quantising += std::pow(ideal.quantised - ideal.exact, 2);
        error += std::pow(whole - ideal.quantised, 2);
      }
    }
    // What whole numbers cut off is little beside what quantising the activations does: most where
    // a few values of a row are 50 times as large as the rest.
    INFO(TraitsOf(dtype).name << " K " << k << " share " << std::sqrt(error / quantising));
    CHECK(std::sqrt(error / quantising) < 0.5);
    for (const Candidate& candidate : Candidates()) {
      for (size_t s = 0; s < p.weight->strips().size(); ++s) {
        const Strip& strip = p.weight->strips()[s];
        for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 20}) {
          INFO(candidate.name << " rows " << rows);
          AlignedBytes got(sizeof(float) * kTileRows * kStrip);
          candidate.kernels->strip[static_cast<int>(strip.format)](
              strip.data, p.weight->prepared(), p.in->data(), rows, Ahead(), got.floats());
          for (int r = 0; r < rows; ++r) {
            REQUIRE(std::memcmp(got.floats() + r * kStrip,
                                want.floats() + (s * kRows + static_cast<size_t>(r)) * kStrip,
                                sizeof(float) * static_cast<size_t>(strip.columns)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("int8 products in whole numbers: sums at the ends of their range, and NaN") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  for (const int fill : {0x00, 0xFF, 0x80, 0x7F, 0xF0, 0x0F}) {
    constexpr int kRows = 12;
    constexpr int64_t kCols = 2048;  // as many groups as a chunk has
    Problem p(dtype, kCols, WeightUse::kLinear, kRows, fill);
    for (int r = 0; r < kRows; ++r) {
      std::vector<float> row(kCols, r % 2 == 0 ? 3.0f : -3.0f);
      for (size_t i = 13; i < row.size() && r % 4 >= 2; i += kGroup) row[i] = -row[i];
      for (size_t i = 0; i < row.size(); ++i) {
        // In the first four rows, which make codes ready, and in those after them.
        if (r < 8 && ((r % 4 == 2 && i % 2 == 0) || (r % 4 == 3 && i % 8 < 4))) row[i] = -row[i];
      }
      if (r == 4) row[40] = std::numeric_limits<float>::infinity();
      p.Set(r, row);
    }
    for (const Candidate& candidate : Candidates()) {
      INFO(candidate.name << " " << TraitsOf(dtype).name << " fill " << fill);
      for (const Strip& strip : p.weight->strips()) {
        AlignedBytes got(sizeof(float) * kTileRows * kStrip);
        candidate.kernels->strip[static_cast<int>(strip.format)](
            strip.data, p.weight->prepared(), p.in->data(), kRows, Ahead(), got.floats());
        for (int r = 0; r < kRows; ++r) {
          for (int n = 0; n < strip.columns; n += 11) {
            const float x = got.floats()[r * kStrip + n];
            if (r == 4) {
              REQUIRE(std::isnan(x));
            } else {
              REQUIRE(x == Formula(p, r, strip.column + n));
            }
          }
        }
      }
    }
  }
}

namespace {

/// A matrix whose blocks all have the same positive d and a code at one end, so that every factor
/// pulls the sums the same way.
std::vector<std::byte> OneSided(DType dtype, int64_t cols) {
  const DTypeTraits traits = TraitsOf(dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(kOutputs * RowBytes(dtype, cols)));
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(traits.block_bytes)) {
    const uint16_t d = FloatToF16(0.25f), m = FloatToF16(-4.0f);  // codes 0: -8 or -16 times d
    std::memcpy(bytes.data() + at, &d, sizeof(d));
    if (dtype == DType::kQ4_1) std::memcpy(bytes.data() + at + 2, &m, sizeof(m));
    if (dtype != DType::kQ8_0) continue;
    for (size_t i = 2; i < 34; ++i) bytes[at + i] = std::byte{0x80};
  }
  return bytes;
}

}  // namespace

TEST_CASE("int8 products in whole numbers: sums that nearly fill 32 bits") {
  const DType dtype = GENERATE(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ8_0);
  constexpr int kRows = 5;
  constexpr int64_t kCols = 2048;
  const std::vector<std::byte> bytes = OneSided(dtype, kCols);
  Problem p(dtype, kCols, {dtype, kOutputs, kCols, bytes.data()}, kRows);
  std::vector<float> row(kCols, 3.0f);
  for (size_t i = 0; i < row.size(); i += kGroup) row[i] = 1.5f;  // so that no centre gains
  p.Set(0, row);
  REQUIRE(CentredPairs(RowUnit(p.weight->prepared(), p.Row(0)), 0) == 0);
  // One group has a centre as large as the row's unit lets it be; the others hardly count.
  for (int i = 0; i < kCols; ++i) row[static_cast<size_t>(i)] = i / kGroup == 5 ? 3.0f : 0.001f;
  p.Set(1, row);
  REQUIRE(CentredPairs(RowUnit(p.weight->prepared(), p.Row(1)), 0) == 0b100);
  REQUIRE(Half(p.Pair(1, 5).centres, 1) >= kInt8Steps * 32 - 1);
  // Packing leaves room for activations of 127.
  CHECK(std::abs(WholeSums(p, 0, 0)[0]) >
        0.97 * kInt8Steps / 127 * std::numeric_limits<int32_t>::max());
  for (const Candidate& candidate : Candidates()) {
    const Strip& strip = p.weight->strips()[0];
    AlignedBytes got(sizeof(float) * kTileRows * kStrip);
    candidate.kernels->strip[static_cast<int>(strip.format)](
        strip.data, p.weight->prepared(), p.in->data(), kRows, Ahead(), got.floats());
    for (int r = 0; r < kRows; ++r) {
      INFO(candidate.name << " " << TraitsOf(dtype).name << " row " << r);
      CHECK(got.floats()[r * kStrip] == Formula(p, r, 0));
    }
  }
}

TEST_CASE("int8 weights in whole numbers: one that is not finite makes its output NaN alone") {
  const DType dtype = GENERATE(DType::kQ4_1, DType::kQ8_0);
  constexpr int64_t kCols = 2304;
  std::vector<std::byte> bytes = OneSided(dtype, kCols);
  const uint16_t inf = 0x7C00;
  const int64_t row = 7, block = 70;  // in the second chunk
  std::memcpy(bytes.data() + row * RowBytes(dtype, kCols) + block * TraitsOf(dtype).block_bytes,
              &inf, sizeof(inf));
  constexpr int kRows = 5;
  const Problem p(dtype, kCols, {dtype, kOutputs, kCols, bytes.data()}, kRows);
  for (const Candidate& candidate : Candidates()) {
    const Strip& strip = p.weight->strips()[0];
    AlignedBytes got(sizeof(float) * kTileRows * kStrip);
    candidate.kernels->strip[static_cast<int>(strip.format)](
        strip.data, p.weight->prepared(), p.in->data(), kRows, Ahead(), got.floats());
    for (int i = 0; i < kRows * kStrip; ++i) {
      INFO(candidate.name << " " << TraitsOf(dtype).name << " output " << i % kStrip);
      CHECK(std::isnan(got.floats()[i]) == (i % kStrip == row));
    }
  }
}

TEST_CASE("int8 weights in whole numbers: the nearest ones, bounded in size and sum") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  const Form form = FormOf(dtype);
  const Problem p(dtype, 2304, WeightUse::kLinear, 1);
  for (int n = 0; n < kOutputs; ++n) {
    int64_t sum = 0;
    bool tight = false;  // no unit is larger than it has to be
    for (int64_t g = 0; g < p.groups(); ++g) {
      if (g % (2 * kChunkPairs) == 0) {
        CHECK((g == 0 || tight));
        sum = 0;
        tight = false;
      }
      GroupCodes codes = {};
      ReadGroup(dtype, p.RowOf(n), g, &codes);
      const StripFormat format = FormatOf(dtype);
      const bool f16 = format == StripFormat::kW4F16 || format == StripFormat::kW8F16;
      const double d = f16 ? F16ToFloat(codes.d16) : codes.d;
      const double m = f16 ? F16ToFloat(codes.m16) : codes.m;
      const double unit = p.OutputUnit(g, n) / (1 << form.shift);
      const double want[] = {d,
                             form.parts == 2 ? m : (m + form.middle * d) / (8 * (1 << form.shift))};
      for (int part = 0; part < (form.parts == 2 || form.has_minimum ? 2 : 1); ++part) {
        const int got = Half(p.Factors(g, n, part), static_cast<int>(g % 2));
        INFO(TraitsOf(dtype).name << " output " << n << " group " << g << " part " << part);
        REQUIRE(std::fabs(got * unit - want[part]) <= 0.51 * unit);
        sum += std::abs(got);
        const bool of_minimum = part == 1 && form.parts == 1;
        tight = tight || std::abs(got) >= (of_minimum ? 32765 : 4094);
        REQUIRE((of_minimum || std::abs(got) <= 4095));
      }
      REQUIRE(sum <= 65536);
      tight = tight || sum >= 65300;
    }
    CHECK(tight);
  }
}

TEST_CASE("int8 activations: steps from zero, or from the centre of lopsided groups") {
  constexpr int64_t kCols = 352;  // an odd number of groups
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, kCols);
  const int64_t groups = layout.groups();
  Random random(10);
  std::vector<float> row(kCols);
  for (size_t i = 0; i < row.size(); ++i) {
    const size_t g = i / kGroup;
    row[i] = random.Gaussian() * std::pow(2.0f, static_cast<float>(g) - 5.0f);
    if (g == 3) row[i] += 100;
    if (g == 4) row[i] = 0;
    if (g == 5 && i % kGroup == 7) row[i] = 40;
    if (g == 6) row[i] = 70;
    if (g == 7) row[i] = i % 2 == 0 ? 5.0f : 3.0f;  // lopsided, but small
  }
  AlignedBytes whole(static_cast<size_t>(layout.Bytes(1)));
  FloatKernelsAvx2().prepare(layout, whole.data(), 0, kCols, row.data());

  const float* const row_unit = RowUnit(layout, whole.data());
  const double unit = *row_unit;
  const std::vector<GroupSteps> steps = StepsOf(row);
  double most = 0;
  int centred = 0;
  for (int64_t g = 0; g < groups; ++g) {
    INFO("group " << g);
    const auto [scale, centre] = steps[static_cast<size_t>(g)];
    const bool has_centre = centre != 0;
    centred += has_centre ? 1 : 0;
    const Int8Pair& a = reinterpret_cast<const Int8Pair*>(whole.data())[g / 2];
    const auto half = static_cast<int>(g % 2);
    if (g == 3 || g == 5 || g == 6) CHECK(has_centre);
    if (g == 4 || g == 7) CHECK(!has_centre);
    int sum = 0;
    double total = 0;
    for (int i = 0; i < kGroup; ++i) {
      const double x = row[static_cast<size_t>(g * kGroup + i)];
      const int value = a.values[half * kGroup + i];
      CHECK(std::fabs(centre + scale * value - x) <= scale * 0.5001 + std::fabs(x) * 1e-6);
      CHECK(std::abs(value) <= kInt8Steps);
      sum += value;
      total += centre + scale * value;
    }
    most = std::max(most, std::fabs(centre) / kInt8Steps + scale);
    CHECK((half == 0 ? a.first_begin() : a.second_begin()) == -8 * sum);
    if (half == 1 || g + 1 == groups) CHECK(a.crosses == Crosses(a));
    CHECK(std::fabs(Half(a.scales, half) - std::min(32767.0, scale / unit * 32768)) <= 0.51);
    CHECK(std::fabs(Half(a.totals, half) - total / unit * 8) <= 0.51);
    CHECK(std::fabs(Half(a.centres, half) - centre / unit * 32) <= 0.51);
    CHECK((CentredPairs(row_unit, 0) >> g / 2 & 1) >= (has_centre ? 1u : 0u));
    CHECK((CentredPairs(row_unit, 0) >> g / 2 & 1) == (a.centres != 0 ? 1u : 0u));
  }
  CHECK((centred >= 3 && centred < groups));
  CHECK(std::fabs(unit - most) <= 1e-6 * most);
  const Int8Pair& last = reinterpret_cast<const Int8Pair*>(whole.data())[groups / 2];
  for (int i = kGroup; i < 2 * kGroup; ++i) CHECK(last.values[i] == 0);
  CHECK(last.second_begin() == 0);
  CHECK(((last.scales | last.totals | last.centres) & 0xFFFF0000u) == 0);
}

TEST_CASE("int8 activations in pieces: finished by the last, steps from zero alone") {
  constexpr int64_t kCols = 352;
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, kCols);
  Random random(11);
  std::vector<float> row(kCols);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = random.Between(0.9f, 1) * (i % 2 == 0 ? 1.0f : -1.0f);
  }
  AlignedBytes whole(static_cast<size_t>(layout.Bytes(1))),
      pieces(static_cast<size_t>(layout.Bytes(1)));
  FloatKernelsAvx2().prepare(layout, whole.data(), 0, kCols, row.data());
  REQUIRE(CentredPairs(RowUnit(layout, whole.data()), 0) == 0);  // this row has none anyway
  const auto in_pieces = [&](int64_t cut) {
    RowFinisher finisher(FloatKernelsAvx2(), layout, {pieces.data()}, 1, 1, 2);
    FloatKernelsAvx2().prepare(layout, pieces.data(), cut, kCols - cut, row.data() + cut);
    finisher.Wrote(0, 1);
    FloatKernelsAvx2().prepare(layout, pieces.data(), 0, cut, row.data());
    finisher.Wrote(0, 1);
  };
  for (const int64_t cut : {32, 96, 320}) {
    in_pieces(cut);
    CHECK(whole.Same(pieces));
  }
  for (int i = 64; i < 96; ++i) row[static_cast<size_t>(i)] = 9;  // lopsided and large
  FloatKernelsAvx2().prepare(layout, whole.data(), 0, kCols, row.data());
  in_pieces(96);
  CHECK(CentredPairs(RowUnit(layout, whole.data()), 0) == 0b10);
  CHECK(CentredPairs(RowUnit(layout, pieces.data()), 0) == 0);
}

TEST_CASE("a head in whole numbers gives its rows exactly as the file has them") {
  const DType dtype = GENERATE(from_range(std::begin(kQuantised), std::end(kQuantised)));
  for (const int64_t k : {512, 2304}) {
    const Problem p(dtype, k, WeightUse::kHead, 1);
    std::vector<float> got(static_cast<size_t>(k));
    for (int n = 0; n < kOutputs; ++n) {
      INFO(TraitsOf(dtype).name << " row " << n);
      p.weight->DecodeRow(n, got.data());
      REQUIRE(got == p.Weights(n));
    }
  }
}

}  // namespace modu::kernels::cpu
