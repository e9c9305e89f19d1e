// int8 rows of every number of groups have the same bytes on every instruction set, written whole,
// in pieces and down columns, whatever their groups hold. The smallest pieces on AVX2 go group by
// group by the definition.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/prepared.h"
#include "tests/catch.h"
#include "tests/kernels_linear/aligned_bytes.h"
#include "tests/kernels_linear/linear_emulated.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::AlignedBytes;
using tests::Random;

struct Candidate {
  const char* name;
  const FloatKernels* kernels;
};

std::vector<Candidate> Candidates() {
  std::vector<Candidate> sets;
  if (DetectIsa() >= Isa::kAvx512) sets.push_back({"avx512", &FloatKernelsAvx512()});
#if defined(MODU_HAVE_EMULATED)
  sets.push_back({"emulated avx512", &FloatKernelsEmulated()});
#endif
  if (sets.empty()) WARN("skipped: neither AVX-512 nor SIMDe here");
  return sets;
}

int Below(Random& random, int64_t end) {
  return static_cast<int>(random.Bits() % static_cast<uint32_t>(end));
}

enum class Extra { kNone, kNan, kInfinity };

/// Groups of all kinds, and one value that is not finite.
std::vector<float> Values(Random& random, int64_t groups, Extra extra) {
  std::vector<float> values(static_cast<size_t>(groups * kGroup));
  for (int64_t g = 0; g < groups; ++g) {
    const int kind = Below(random, groups < 4 ? 12 : 24);  // from 12 on as 0
    const float size = std::pow(2.0f, static_cast<float>(Below(random, 12)));
    const int one = Below(random, kGroup);
    for (int i = 0; i < kGroup; ++i) {
      float& x = values[static_cast<size_t>(g * kGroup + i)];
      x = random.Gaussian() * size;
      if (kind == 1) x = 0;
      if (kind == 2) x = i % 3 == 0 ? -0.0f : 0.0f;
      if (kind == 3) x *= 1e-38f;
      if (kind == 4) x *= 1e-36f;                   // about where steps begin
      if (kind == 5) x = std::fabs(x);              // lopsided
      if (kind == 6) x = -std::fabs(x) - 3 * size;  // all of it below zero
      if (kind == 7) x = size;                      // no range
      if (kind == 8 && i == one) x = 5000;          // much of the row
      if (kind == 9 && i == one) x = -5000;
      if (kind == 10) x = i == one ? -3e38f : 3e38f;      // finite, but not sums of them
      if (kind == 11) x = static_cast<float>(i) - 15.5f;  // ties
    }
  }
  const auto at = static_cast<size_t>(Below(random, static_cast<int64_t>(values.size())));
  const float sign = Below(random, 2) == 0 ? 1.0f : -1.0f;
  if (extra == Extra::kNan) values[at] = std::numeric_limits<float>::quiet_NaN();
  if (extra == Extra::kInfinity) values[at] = sign * std::numeric_limits<float>::infinity();
  return values;
}

constexpr Extra kExtras[] = {Extra::kNone, Extra::kNone, Extra::kNone, Extra::kNan,
                             Extra::kInfinity};

}  // namespace

TEST_CASE("int8 rows of any number of groups have the same bytes on every instruction set") {
  Random random(21);
  std::vector<int64_t> counts = {63, 64, 65, 66, 67, 68, 80, 127, 128, 129, 131};
  for (int64_t groups = 1; groups <= 50; ++groups) counts.push_back(groups);
  const std::vector<Candidate> candidates = Candidates();
  int centred = 0;
  for (const int64_t groups : counts) {
    const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, groups * kGroup);
    for (int trial = 0; trial < 40; ++trial) {
      const std::vector<float> values =
          Values(random, groups, kExtras[static_cast<size_t>(trial) % std::size(kExtras)]);
      AlignedBytes want(static_cast<size_t>(layout.Bytes(1)));
      FloatKernelsAvx2().prepare(layout, want.data(), 0, layout.cols, values.data());
      centred += CentredPairs(RowUnit(layout, want.data()), 0) != 0 ? 1 : 0;
      for (const Candidate& candidate : candidates) {
        INFO(candidate.name << " groups " << groups << " trial " << trial);
        AlignedBytes got(static_cast<size_t>(layout.Bytes(1)));
        candidate.kernels->prepare(layout, got.data(), 0, layout.cols, values.data());
        REQUIRE(got.Same(want));
      }
    }
  }
  CHECK(centred > 300);
}

TEST_CASE("int8 pieces of any number of groups have the bytes of groups one by one") {
  Random random(22);
  const std::vector<Candidate> candidates = Candidates();
  for (int64_t groups = 2; groups <= 90; groups += groups < 42 ? 1 : 7) {
    const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, groups * kGroup);
    for (int trial = 0; trial < 15; ++trial) {
      const std::vector<float> values =
          Values(random, groups, kExtras[static_cast<size_t>(trial) % std::size(kExtras)]);
      AlignedBytes want(static_cast<size_t>(layout.Bytes(1)));
      for (int64_t g = 0; g < groups; ++g) {
        FloatKernelsAvx2().prepare(layout, want.data(), g * kGroup, kGroup,
                                   values.data() + g * kGroup);
      }
      FloatKernelsAvx2().finish_rows(layout, want.data(), 1);
      std::vector<int64_t> cuts = {1 + Below(random, groups - 1)};
      if (cuts[0] + 1 < groups) {
        cuts.push_back(cuts[0] + 1 + Below(random, groups - cuts[0] - 1));
      }
      cuts.push_back(groups);
      for (const Candidate& candidate : candidates) {
        INFO(candidate.name << " groups " << groups << " trial " << trial);
        AlignedBytes got(static_cast<size_t>(layout.Bytes(1)));
        for (size_t i = cuts.size(); i-- > 0;) {  // the last one first
          const int64_t first = i == 0 ? 0 : cuts[i - 1];
          candidate.kernels->prepare(layout, got.data(), first * kGroup, (cuts[i] - first) * kGroup,
                                     values.data() + first * kGroup);
        }
        candidate.kernels->finish_rows(layout, got.data(), 1);
        REQUIRE(got.Same(want));
      }
    }
  }
}

TEST_CASE("int8 groups down columns of any number of rows have the bytes of groups one by one") {
  Random random(23);
  const std::vector<Candidate> candidates = Candidates();
  constexpr int64_t kGroups = 5;
  constexpr int64_t kCols = kGroups * kGroup;
  const PreparedLayout layout = MakePreparedLayout(PreparedKind::kInt8, kCols);
  for (int rows = 1; rows <= 140; rows += rows < 70 ? 1 : 9) {
    const std::vector<float> values =
        Values(random, kGroups * rows, kExtras[static_cast<size_t>(rows) % std::size(kExtras)]);
    const auto bytes = static_cast<size_t>(layout.Bytes(rows));
    AlignedBytes want(bytes);
    for (int r = 0; r < rows; ++r) {
      for (int64_t first = 0; first < kCols; first += kGroup) {
        FloatKernelsAvx2().prepare(layout, want.data() + r * layout.row_bytes, first, kGroup,
                                   values.data() + r * kCols + first);
      }
    }
    FloatKernelsAvx2().finish_rows(layout, want.data(), rows);
    for (const Candidate& candidate : candidates) {
      INFO(candidate.name << " rows " << rows);
      AlignedBytes got(bytes);
      for (int64_t first = 0; first < kCols; first += kGroup) {
        candidate.kernels->prepare_rows(layout, got.data(), rows, first, kGroup,
                                        values.data() + first, kCols);
      }
      candidate.kernels->finish_rows(layout, got.data(), rows);
      REQUIRE(got.Same(want));
    }
  }
}

}  // namespace modu::kernels::cpu
