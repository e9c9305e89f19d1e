// Every kernel gives the same bits on AVX2 and AVX-512. The AVX-512 form runs natively where the
// machine has it, and over emulated intrinsics where SIMDe is installed.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_finisher.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::AlignedBytes;
using tests::kAllTypes;
using tests::Random;
using tests::RandomMatrix;

struct Candidate {
  const char* name;
  const Int8Kernels* int8;
  const FloatKernels* f32;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> sets;
  if (DetectIsa() >= Isa::kAvx512) {
    sets.push_back({"avx512", &Int8KernelsAvx512(), &FloatKernelsAvx512()});
    sets.push_back({"avx512, Winograd's", &Int8WinogradAnyRowsAvx512(), &FloatKernelsAvx512()});
    sets.push_back({"avx512, many rows", &Int8WinogradAvx512(), &FloatKernelsAvx512()});
  }
#if defined(MODU_HAVE_EMULATED)
  sets.push_back({"emulated avx512", &Int8KernelsEmulated(), &FloatKernelsEmulated()});
  sets.push_back({"emulated, Winograd's", &Int8WinogradEmulated(), &FloatKernelsEmulated()});
#endif
  if (sets.empty()) WARN("skipped: neither AVX-512 nor SIMDe here");
  return sets;
}

}  // namespace

TEST_CASE("products have the same bits on every instruction set") {
  const FloatKernels& avx2 = FloatKernelsAvx2();
  WorkerPool pool(1);
  WeightArena arena(int64_t{1} << 30);
  for (const Candidate& candidate : Candidates()) {
    for (const Numerics numerics : {Numerics::kExact, Numerics::kBf16, Numerics::kInt8}) {
      for (const DType dtype : kAllTypes) {
        // int8 takes so many groups in two goes.
        const int64_t k = numerics == Numerics::kInt8 ? 2304 : 512;
        const RandomMatrix matrix(dtype, 33, k, 5);
        const WeightSource parts[] = {matrix.source()};
        const auto packed =
            CpuWeight::Create(parts, WeightUse::kLinear, numerics, pool, arena).value();
        const CpuWeight& weight = *packed;
        const PreparedLayout& layout = weight.prepared();
        AlignedBytes in(static_cast<size_t>(layout.row_bytes * kTileRows));
        Random random(6);
        std::vector<float> row(static_cast<size_t>(k));
        for (int r = 0; r < kTileRows; ++r) {
          for (float& x : row) x = random.Gaussian();
          avx2.prepare(layout, in.data() + r * layout.row_bytes, 0, k, row.data());
        }
        for (const int rows : {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  12, 13,
                               14, 15, 16, 17, 23, 24, 31, 64, 65, 127, 128}) {
          INFO(candidate.name << " " << TraitsOf(dtype).name << " rows " << rows);
          for (const Strip& strip : weight.strips()) {
            AlignedBytes want(sizeof(float) * kTileRows * kStrip);
            AlignedBytes got(sizeof(float) * kTileRows * kStrip);
            if (layout.kind == PreparedKind::kInt8) {
              const auto format = static_cast<int>(strip.format);
              Int8KernelsAvx2().strip[format](strip.data, layout, in.data(), rows, Ahead(),
                                              want.floats());
              candidate.int8->strip[format](strip.data, layout, in.data(), rows, Ahead(),
                                            got.floats());
            } else {
              avx2.strip(strip, layout, weight.round_to_bf16(), in.data(), rows, want.floats());
              candidate.f32->strip(strip, layout, weight.round_to_bf16(), in.data(), rows,
                                   got.floats());
            }
            REQUIRE(got.Same(want));
          }
        }
      }
    }
  }
}

TEST_CASE("prepared rows have the same bits on every instruction set") {
  for (const Candidate& candidate : Candidates()) {
    for (const PreparedKind kind :
         {PreparedKind::kF32, PreparedKind::kBf16, PreparedKind::kBf16Pairs,
          PreparedKind::kBf16Tiles, PreparedKind::kInt8}) {
      const int64_t k = 256;
      const PreparedLayout layout = MakePreparedLayout(kind, k);
      Random random(7);
      std::vector<float> row(static_cast<size_t>(k));
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = random.Gaussian() * std::pow(10.0f, static_cast<float>(i / 32) * 12 - 45);
      }
      row[100] = std::numeric_limits<float>::quiet_NaN();
      row[200] = -std::numeric_limits<float>::infinity();
      AlignedBytes want(static_cast<size_t>(layout.Bytes(1)));
      AlignedBytes got(static_cast<size_t>(layout.Bytes(1)));
      FloatKernelsAvx2().prepare(layout, want.data(), 0, 128, row.data());
      FloatKernelsAvx2().prepare(layout, want.data(), 128, 128, row.data() + 128);
      if (kind == PreparedKind::kInt8) FloatKernelsAvx2().finish_rows(layout, want.data(), 1);
      candidate.f32->prepare(layout, got.data(), 0, k, row.data());
      INFO(candidate.name << " kind " << static_cast<int>(kind));
      CHECK(got.Same(want));
    }
  }
}

TEST_CASE(
    "int8 groups have the same bits one by one, four at a time, along rows and down columns") {
  std::vector<const FloatKernels*> sets = {&FloatKernelsAvx2()};
  for (const Candidate& candidate : Candidates()) sets.push_back(candidate.f32);
  constexpr int kRows = 11;
  constexpr int64_t k = 14 * kGroup;
  Random random(9);
  std::vector<float> values(kRows * k);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t group = i / kGroup;
    values[i] = random.Gaussian() * (i % 41 == 0 ? 60.0f : 1.0f);
    if (group % 9 == 2) values[i] = i % 3 == 0 ? -0.0f : 0.0f;
    if (group % 13 == 5) values[i] = 1e38f;  // finite, but not the sum
    if (group % 17 == 7) values[i] = 5;
    if (group % 19 == 3) values[i] *= 1e-38f;
  }
  values[3 * k + 40] = std::numeric_limits<float>::quiet_NaN();
  values[6 * k + 200] = std::numeric_limits<float>::infinity();
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, k);
  const auto bytes = static_cast<size_t>(layout.Bytes(kRows));
  AlignedBytes one_by_one(bytes);
  for (int r = 0; r < kRows; ++r) {
    for (int64_t first = 0; first < k; first += kGroup) {
      FloatKernelsAvx2().prepare(layout, one_by_one.data() + r * layout.row_bytes, first, kGroup,
                                 values.data() + r * k + first);
    }
  }
  FloatKernelsAvx2().finish_rows(layout, one_by_one.data(), kRows);
  for (const FloatKernels* set : sets) {
    AlignedBytes rows(bytes), columns(bytes);
    for (int r = 0; r < kRows;
         ++r) {  // in pieces: one row of groups has no centres, nor have these
      set->prepare(layout, rows.data() + r * layout.row_bytes, 0, 5 * kGroup,
                   values.data() + r * k);
      set->prepare(layout, rows.data() + r * layout.row_bytes, 5 * kGroup, k - 5 * kGroup,
                   values.data() + r * k + 5 * kGroup);
    }
    set->finish_rows(layout, rows.data(), kRows);
    RowFinisher finisher(*set, layout, {columns.data()}, kRows, 4, static_cast<int>(k / kGroup));
    for (int64_t first = 0; first < k; first += kGroup) {
      set->prepare_rows(layout, columns.data(), kRows, first, kGroup, values.data() + first, k);
      finisher.Wrote(0, kRows);
    }
    CHECK(rows.Same(one_by_one));
    CHECK(columns.Same(one_by_one));
  }
}

TEST_CASE("whole int8 rows have the same centres one by one and four at a time") {
  std::vector<const FloatKernels*> sets = {&FloatKernelsAvx2()};
  for (const Candidate& candidate : Candidates()) sets.push_back(candidate.f32);
  const PreparedLayout three = MakePreparedLayout(PreparedKind::kInt8, 3 * kGroup);
  const PreparedLayout four = MakePreparedLayout(PreparedKind::kInt8, 4 * kGroup);
  Random random(12);
  int centred = 0;
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> row(4 * kGroup);  // zeros in the last group: three alone go one by one
    for (int i = 0; i < 3 * kGroup; ++i) {
      const bool large = i % kGroup == 9 && (trial >> i / kGroup & 1) != 0;
      row[static_cast<size_t>(i)] = random.Gaussian() * (large ? 20.0f : 1.0f);
    }
    for (const FloatKernels* set : sets) {
      AlignedBytes one_by_one(static_cast<size_t>(three.Bytes(1)));
      AlignedBytes together(static_cast<size_t>(four.Bytes(1)));
      set->prepare(three, one_by_one.data(), 0, three.cols, row.data());
      set->prepare(four, together.data(), 0, four.cols, row.data());
      REQUIRE(std::memcmp(one_by_one.data(), together.data(), 2 * sizeof(Int8Pair)) == 0);
      const float* const units[] = {RowUnit(three, one_by_one.data()),
                                    RowUnit(four, together.data())};
      REQUIRE(*units[0] == *units[1]);
      REQUIRE(CentredPairs(units[0], 0) == CentredPairs(units[1], 0));
      centred += CentredPairs(units[0], 0) != 0 ? 1 : 0;
    }
  }
  CHECK(centred > 100);
}

TEST_CASE("epilogues have the same bits on every instruction set") {
  constexpr int kRows = 5;
  for (const Candidate& candidate : Candidates()) {
    Random random(8);
    AlignedBytes tile(sizeof(float) * kRows * kStrip), up(sizeof(float) * kRows * kStrip);
    std::vector<float> scales, bias;
    for (int i = 0; i < kRows * kStrip; ++i) {
      tile.floats()[i] = random.Gaussian() * 4;
      up.floats()[i] = random.Gaussian();
      if (i >= kStrip) continue;
      scales.push_back(random.Between(0.5f, 2));
      bias.push_back(random.Gaussian());
    }
    for (const int columns : {1, 7, 8, 15, 16, 17, 31, 32}) {
      for (const int options : {0, 1, 2, 3, 4, 5, 6, 7}) {
        std::vector<float> want(kRows * 40, 0.25f), got = want;
        const StoreArgs args = {tile.floats(),
                                kRows,
                                columns,
                                (options & 1) != 0 ? scales.data() : nullptr,
                                (options & 2) != 0 ? bias.data() : nullptr,
                                (options & 4) != 0,
                                want.data(),
                                40};
        FloatKernelsAvx2().store(args);
        StoreArgs other = args;
        other.out = got.data();
        candidate.f32->store(other);
        REQUIRE(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
      }
    }
    for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
      for (const float* scale :
           {static_cast<const float*>(nullptr), static_cast<const float*>(scales.data())}) {
        AlignedBytes want(sizeof(float) * kRows * kStrip), got(sizeof(float) * kRows * kStrip);
        std::memcpy(want.data(), tile.data(), sizeof(float) * kRows * kStrip);
        std::memcpy(got.data(), tile.data(), sizeof(float) * kRows * kStrip);
        FloatKernelsAvx2().gate({want.floats(), up.floats(), kRows, scale, scale, activation});
        candidate.f32->gate({got.floats(), up.floats(), kRows, scale, scale, activation});
        CHECK(got.Same(want));
      }
    }
  }
}

}  // namespace modu::kernels::cpu
