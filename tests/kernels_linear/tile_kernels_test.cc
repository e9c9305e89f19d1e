// The tile kernels, over the scalar twin and, where the machine has it, over AMX: the bits of
// tdpbf16ps's order by plain loops, for any number of rows, and float64 sums. Rows of activations
// beyond the last, and the tails of rows, are NaN.
#include <xmmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/float_formats.h"
#include "kernels/ref/dequantize.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"
#include "tests/kernels_linear/tile_twin.h"

namespace modu::kernels::cpu {
namespace {

using tests::AlignedBytes;
using tests::kAllTypes;
using tests::Random;
using tests::RandomMatrix;

const std::vector<int> kRows = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64};

bool MachineHasAmx() {
  static const std::string missing = MissingFor(Isa::kAmx, ReadMachine());
  static bool said = false;
  if (!missing.empty() && !said) WARN("skipped: AMX itself (" + missing + ")");
  said = true;
  return missing.empty();
}

struct Bf16Candidate {
  const char* name;
  const Bf16TileKernels* kernels;
};
std::vector<Bf16Candidate> Bf16Candidates() {
  std::vector<Bf16Candidate> sets = {{"twin", &Bf16TileKernelsTwin()}};
#if defined(MODU_HAVE_EMULATED)
  sets.push_back({"twin over emulated AVX-512", &Bf16TileKernelsEmulated()});
#endif
  if (MachineHasAmx()) sets.push_back({"amx", &Bf16TileKernelsAmx()});
  return sets;
}

/// A packed weight, `rows` rows of activations for it (with outliers and a zero group), and the
/// memory that they lie in.
struct Problem {
  Problem(DType dtype, int64_t n, int64_t k, Numerics numerics, int rows, int fill = -1)
      : matrix(dtype, n, k, 5, fill), values(static_cast<size_t>(rows * k)) {
    const WeightSource parts[] = {matrix.source()};
    weight = CpuWeight::Create(parts, WeightUse::kLinear, numerics, pool, arena,
                               PreparedKind::kBf16Tiles)
                 .value();
    const PreparedLayout& layout = weight->prepared();
    in = std::make_unique<AlignedBytes>(static_cast<size_t>(layout.Bytes(rows + 16)));
    Random random(6);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = random.Gaussian() * (i % 97 == 0 ? 8.0f : 1.0f);
      if (static_cast<int64_t>(i) % k / 32 == 1 && i % 3 == 0) values[i] = 0;
    }
    for (int r = 0; r < rows; ++r) {
      FloatKernelsAvx2().prepare(layout, Row(r), 0, k, values.data() + r * k);
    }
  }

  /// Weight (n, k) as the mode multiplies with it.
  std::vector<float> WeightRow(int64_t n) const {
    std::vector<float> row(static_cast<size_t>(weight->cols()));
    DequantizeRow(matrix.source().dtype, matrix.row(n), weight->cols(), row.data());
    if (weight->round_to_bf16()) {
      for (float& x : row) x = Bf16ToFloat(FloatToBf16(x));
    }
    return row;
  }
  std::byte* Row(int r) const { return weight->prepared().Row({in->data()}, r); }
  /// Activation (r, k) as the mode multiplies with it.
  double In(int r, int64_t k) const {
    const std::byte* const row = Row(r);
    return Bf16ToFloat(reinterpret_cast<const uint16_t*>(row + k / 2 * kTileRowBytes)[k % 2]);
  }

  WorkerPool pool{1};
  WeightArena arena{int64_t{1} << 30};
  RandomMatrix matrix;
  std::vector<float> values;
  std::unique_ptr<CpuWeight> weight;
  std::unique_ptr<AlignedBytes> in;
};

/// Relative RMS error of `tile` (rows x 32) against float64 sums over the strip's columns.
double ErrorOf(const Problem& p, const Strip& strip, int rows, const float* tile) {
  double squares = 0, error = 0;
  for (int n = 0; n < strip.columns; ++n) {
    const std::vector<float> w = p.WeightRow(strip.column + n);
    for (int r = 0; r < rows; ++r) {
      double want = 0;
      for (int64_t k = 0; k < p.weight->cols(); ++k) want += p.In(r, k) * w[static_cast<size_t>(k)];
      const double got = tile[r * kStrip + n];
      REQUIRE(std::isfinite(got));
      squares += want * want;
      error += (got - want) * (got - want);
    }
  }
  return std::sqrt(error / squares);
}

/// One output in tdpbf16ps's order, by this processor's FMA with denormals off.
float TileOrderDot(const Problem& p, int r, const std::vector<float>& w) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  float c = 0;
  const auto cols = static_cast<int64_t>(w.size());
  for (int64_t first = 0; first < cols; first += kGroup) {
    volatile float sums[2] = {0, 0};
    for (int64_t k = first; k < std::min<int64_t>(first + kGroup, cols); ++k) {
      float sum = sums[k % 2];
      const auto a = static_cast<float>(p.In(r, k));
      asm volatile("vfmadd231ss %1, %2, %0" : "+x"(sum) : "x"(a), "x"(w[static_cast<size_t>(k)]));
      sums[k % 2] = sum;
    }
    volatile float both = sums[0] + sums[1];
    volatile float next = c + both;
    c = next;
  }
  _mm_setcsr(before);
  return c;
}

/// Passes of one call, turned to rows and checked for order and size.
struct Passes {
  const Bf16TileKernels& kernels;
  std::vector<float> all;  // rows x 32 outputs

  void Take(int row, int rows, const float* sums) {
    REQUIRE(all.size() == static_cast<size_t>(row * kStrip));
    REQUIRE((rows >= 1 && rows <= kPassRows));
    AlignedBytes tile(sizeof(float) * 16 * kStrip);
    for (int r = 0; r < rows; r += 16) {
      const int some = std::min(16, rows - r);
      std::fill_n(tile.floats(), 16 * kStrip, std::numeric_limits<float>::quiet_NaN());
      kernels.to_rows(sums + r * kStrip, some, tile.floats());
      for (int i = some * kStrip; i < 16 * kStrip; ++i) {
        REQUIRE(std::isnan(tile.floats()[i]));  // nothing beyond the rows asked for
      }
      CheckStored(sums + r * kStrip, some, tile.floats());
      all.insert(all.end(), tile.floats(), tile.floats() + some * kStrip);
    }
  }

  /// store_rows writes the same, or adds it, and nothing beside it.
  void CheckStored(const float* sums, int rows, const float* tile) const {
    constexpr int kStride = kStrip + 3;
    for (const bool accumulate : {false, true}) {
      std::vector<float> out(17 * kStride, 0.75f);
      kernels.store_rows(sums, rows, accumulate, out.data(), kStride);
      for (int i = 0; i < 17 * kStride; ++i) {
        const int row = i / kStride, column = i % kStride;
        const bool written = row < rows && column < kStrip;
        const float from = written && !accumulate ? 0.0f : 0.75f;
        const float added = written ? tile[row * kStrip + column] : 0.0f;
        REQUIRE(out[static_cast<size_t>(i)] == from + added);
      }
    }
  }
};

/// Rows x the outputs of two tiles, row by row. Where they would go is said in three ways, by rows:
/// not at all, row by row and by tiles of rows.
std::vector<float> Products(const Bf16TileKernels& kernels, const Problem& p, OutputTile first,
                            OutputTile second, int rows) {
  const PreparedLayout& layout = p.weight->prepared();
  const int64_t groups = layout.groups(), chunk = rows > kPassRows ? kSingleChunkGroups : groups;
  AlignedBytes scratch(static_cast<size_t>(kTileScratchBytes));
  AlignedBytes sums(sizeof(float) * static_cast<size_t>((rows + 31) / 32 * kPassSums));
  const TileOutput places[] = {{}, {scratch.data(), 128, 1, 2}, {scratch.data(), 2048, 16, 16}};
  Passes passes = {kernels, {}};
  kernels.begin();
  for (int64_t begin = 0; begin < groups; begin += chunk) {
    kernels.products(
        {.outputs = {first, second},
         .layout = &layout,
         .in = p.in->data(),
         .rows = rows,
         .first_group = begin,
         .last_group = std::min(begin + chunk, groups),
         .out = places[rows % 3],
         .ahead = {{}, {scratch.data(), 64, rows % 5, 3}},
         .scratch = scratch.data(),
         .sums = sums.floats(),
         .keep_sums = chunk < groups,
         .finish = {[](const void* context, int row, int some, const float* at) {
                      static_cast<Passes*>(const_cast<void*>(context))->Take(row, some, at);
                    },
                    &passes}});
  }
  kernels.end();
  REQUIRE(passes.all.size() == static_cast<size_t>(rows * kStrip));
  return passes.all;
}
std::vector<float> Products(const Bf16TileKernels& kernels, const Problem& p, const Strip& strip,
                            int rows) {
  return Products(kernels, p, {&strip, 0}, {&strip, 1}, rows);
}

}  // namespace

TEST_CASE("bf16 products by tiles have the instruction's order of additions at any row count") {
  const DType dtype = GENERATE(from_range(std::begin(kAllTypes), std::end(kAllTypes)));
  const int block = TraitsOf(dtype).block_elements;
  for (const int64_t k : {2, 30, 32, 34, 64, 250, 256, 258, 288, 512, 544}) {
    if (k % block != 0) continue;
    const Problem p(dtype, 37, k, Numerics::kBf16, kBlockRows);
    REQUIRE(p.weight->prepared().kind == PreparedKind::kBf16Tiles);
    for (const Strip& strip : p.weight->strips()) {
      std::vector<float> want(kBlockRows * kStrip, 0.0f);
      for (int n = 0; n < strip.columns; ++n) {
        const std::vector<float> w = p.WeightRow(strip.column + n);
        for (int r = 0; r < kBlockRows; ++r) {
          want[static_cast<size_t>(r * kStrip + n)] = TileOrderDot(p, r, w);
        }
      }
      for (const Bf16Candidate& candidate : Bf16Candidates()) {
        for (const int rows : kRows) {
          INFO(candidate.name << " " << TraitsOf(dtype).name << " K " << k << " rows " << rows);
          const std::vector<float> got = Products(*candidate.kernels, p, strip, rows);
          for (int r = 0; r < rows; ++r) {
            REQUIRE(std::memcmp(got.data() + r * kStrip, want.data() + r * kStrip,
                                sizeof(float) * static_cast<size_t>(strip.columns)) == 0);
          }
          if (rows == 17) CHECK(ErrorOf(p, strip, rows, got.data()) < 3e-6);
        }
      }
    }
  }
}

TEST_CASE("bf16 products by tiles: more inputs than one chunk, more rows than one pass") {
  const DType dtype = GENERATE(DType::kQ4_1, DType::kQ8_0, DType::kBF16);
  const int64_t k = 20 * 32 * 2 + 64;
  constexpr int kMany = 256;
  const Problem p(dtype, 32, k, Numerics::kBf16, kMany);
  const Strip& strip = p.weight->strips()[0];
  std::vector<float> want;
  std::vector<std::vector<float>> weights;
  for (int n = 0; n < kStrip; ++n) weights.push_back(p.WeightRow(n));
  for (int r = 0; r < kMany; ++r) {
    for (const std::vector<float>& w : weights) want.push_back(TileOrderDot(p, r, w));
  }
  for (const Bf16Candidate& candidate : Bf16Candidates()) {
    for (const int rows : {1, 33, 65, 239, kMany}) {
      INFO(candidate.name << " " << TraitsOf(dtype).name << " rows " << rows);
      const std::vector<float> got = Products(*candidate.kernels, p, strip, rows);
      REQUIRE(std::memcmp(got.data(), want.data(), sizeof(float) * got.size()) == 0);
    }
  }
}

TEST_CASE("bf16 products by tiles: halves of two strips are what the strips' own products are") {
  const DType dtype = GENERATE(from_range(std::begin(kAllTypes), std::end(kAllTypes)));
  const DType other = GENERATE(DType::kQ4_1, DType::kBF16);  // of the second strip
  const int64_t k = GENERATE(512, 20 * 32 + 128);
  constexpr int kMany = 70;
  const Problem p(dtype, 64, k, Numerics::kBf16, kMany), q(other, 32, k, Numerics::kBf16, 1);
  const Strip &a = p.weight->strips()[1], &b = q.weight->strips()[0];
  for (const Bf16Candidate& candidate : Bf16Candidates()) {
    for (const int rows : {1, 20, kMany}) {
      const std::vector<float> of_a = Products(*candidate.kernels, p, a, rows);
      const std::vector<float> of_b = Products(*candidate.kernels, p, b, rows);
      for (const int half : {0, 1}) {
        INFO(candidate.name << " " << TraitsOf(dtype).name << " rows " << rows << " half " << half);
        const auto got = Products(*candidate.kernels, p, {&a, half}, {&b, half}, rows);
        for (int r = 0; r < rows; ++r) {
          const auto at = got.begin() + r * kStrip;
          REQUIRE(std::equal(at, at + 16, of_a.begin() + r * kStrip + 16 * half));
          REQUIRE(std::equal(at + 16, at + 32, of_b.begin() + r * kStrip + 16 * half));
        }
      }
    }
  }
}

TEST_CASE("gated features go to tiles as the formula has them") {
  constexpr int kMany = 37;
  const int columns = GENERATE(32, 20);
  const int width = GENERATE(32, 16);  // written at once
  Random random(3);
  AlignedBytes gate(sizeof(float) * 48 * kStrip), up(sizeof(float) * 48 * kStrip);
  const auto place = [](int r, int n) {
    return r / 16 * 512 + n / 16 * 256 + n % 16 * 16 + r % 16;
  };
  for (int r = 0; r < 48; ++r) {
    for (int n = 0; n < kStrip; ++n) {  // weights past the columns are zero
      gate.floats()[place(r, n)] = n < columns ? random.Gaussian() * 4 : 0.0f;
      up.floats()[place(r, n)] = n < columns ? random.Gaussian() : 0.0f;
    }
  }
  std::vector<float> factors;
  for (int i = 0; i < 4 * columns; ++i) factors.push_back(random.Between(0.5f, 2));
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kBf16Tiles, 64 + columns);
  for (const Bf16Candidate& candidate : Bf16Candidates()) {
    for (const bool scaled : {false, true}) {
      for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
        INFO(candidate.name << " scaled " << scaled);
        const auto array = [&](int i) {
          return scaled ? factors.data() + static_cast<ptrdiff_t>(i) * columns : nullptr;
        };
        std::vector<uint16_t> got(static_cast<size_t>(layout.Bytes(kMany) / 2), 0x7FC1);
        for (int column = 0; column < kStrip; column += width) {
          const auto from = [&](int i) { return scaled ? array(i) + column : nullptr; };
          candidate.kernels->gate(
              {.gate = gate.floats() + column * 16,
               .up = up.floats() + column * 16,
               .rows = kMany,
               .width = width,
               .columns = std::clamp(columns - column, 0, width),
               .gate_scales = from(0),
               .up_scales = from(1),
               .gate_bias = from(2),
               .up_bias = from(3),
               .activation = activation,
               .out = reinterpret_cast<std::byte*>(got.data()) + (64 + column) / 2 * kTileRowBytes,
               .block_bytes = layout.block_bytes});
        }
        for (int r = 0; r < kMany; ++r) {
          for (int n = 0; n < kStrip; ++n) {
            double g = gate.floats()[place(r, n)], u = up.floats()[place(r, n)];
            if (scaled && n < columns) {
              g = g * array(0)[n] + array(2)[n];
              u = u * array(1)[n] + array(3)[n];
            }
            const double inner = 0.7978845608028654 * (g + 0.044715 * g * g * g);
            const double act = activation == Activation::kSilu ? g / (1 + std::exp(-g))
                                                               : g / 2 * (1 + std::tanh(inner));
            const int64_t k = 64 + n;
            const int64_t word = r / 16 * layout.block_bytes / 2 + k / 2 * 32 + r % 16 * 2 + k % 2;
            const double wrote = Bf16ToFloat(got[static_cast<size_t>(word)]);
            REQUIRE(std::fabs(wrote - act * u) <= std::fabs(act * u) * 0.0040 + 1e-6);
          }
        }
      }
    }
  }
}

}  // namespace modu::kernels::cpu
