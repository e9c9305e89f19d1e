// Passes over a row of logits: the same bits at every width of vectors, and the k first of any row.
#include "engine/sampling/logit_scan.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>

#include "tests/catch.h"

namespace modu::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// Some -inf; few different values where `steps` is small.
std::vector<float> RandomRow(std::mt19937& random, int n, int steps) {
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> row(static_cast<size_t>(n));
  for (float& x : row) {
    x = std::round(normal(random) * static_cast<float>(steps)) / static_cast<float>(steps);
    if (random() % 17 == 0) x = -kInf;
  }
  return row;
}

bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

TEST_CASE("Passes over logits have the same bits at every width of vectors") {
  std::mt19937 random(1);
  const LogitPasses& any = *LogitPassesOf(4);
  REQUIRE(LogitPassesOf(32) == nullptr);
  for (const int lanes : {8, 16}) {
    const LogitPasses* const wide = LogitPassesOf(lanes);
    if (wide == nullptr) continue;
    for (const int n : {1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 32003}) {
      INFO(lanes << " lanes, " << n << " logits");
      std::vector<float> row = RandomRow(random, n, 1 << 20);
      if (n == 1000) row[777] = std::numeric_limits<float>::quiet_NaN();
      const RowMax a = any.find_max(row.data(), n), b = wide->find_max(row.data(), n);
      CHECK(a.bad == b.bad);
      CHECK(a.bad == (n == 1000));
      if (a.bad) continue;
      CHECK((a.max == b.max && a.argmax == b.argmax));
      std::vector<double> sums, wide_sums;
      CHECK(SameBits(any.sum_exp(row.data(), n, 9, 0.7f, &sums),
                     wide->sum_exp(row.data(), n, 9, 0.7f, &wide_sums)));
      CHECK(sums == wide_sums);
      CHECK(sums.size() == static_cast<size_t>((n + kScanBlock - 1) / kScanBlock));
      std::vector<float> maxima, wide_maxima;
      any.block_maxima(row.data(), n, &maxima);
      wide->block_maxima(row.data(), n, &wide_maxima);
      CHECK(maxima == wide_maxima);
      CHECK(maxima.size() == static_cast<size_t>(n / 64));
      for (const float threshold : {-kInf, 0.0f, 8.0f, 12.0f, 100.0f}) {
        for (int i = 0; i < n; i += 1 + n / 7) {
          CHECK(any.skip_below(row.data(), i, n, threshold) ==
                wide->skip_below(row.data(), i, n, threshold));
        }
      }
    }
  }
}

TEST_CASE("The k first of a row are those of sorting it, with ties and masked ids") {
  std::mt19937 random(2);
  std::vector<Candidate> got, work;
  for (int trial = 0; trial < 400; ++trial) {
    const int n = 1 + static_cast<int>(random() % 3000), steps = trial % 3 == 0 ? 1 : 1 << 20;
    const std::vector<float> row =
        trial == 7 ? std::vector<float>(static_cast<size_t>(n), 1.5f) : RandomRow(random, n, steps);
    std::vector<Candidate> all;
    for (int i = 0; i < n; ++i) {
      if (row[static_cast<size_t>(i)] > -kInf) all.push_back({row[static_cast<size_t>(i)], i});
    }
    std::sort(all.begin(), all.end(), Before);
    for (const int k : {0, 1, 2, n / 64, n / 64 + 1, n / 2, n, n + 5}) {
      INFO("trial " << trial << ", " << n << " logits, k " << k);
      SelectTopK(row.data(), n, k, &got, &work);
      REQUIRE(got.size() == std::min(all.size(), static_cast<size_t>(k)));
      CHECK(std::is_sorted(got.begin(), got.end(),
                           [](const Candidate& a, const Candidate& b) { return a.id < b.id; }));
      std::sort(got.begin(), got.end(), Before);
      for (size_t i = 0; i < got.size(); ++i) {
        REQUIRE((got[i].id == all[i].id && got[i].value == all[i].value));
      }
    }
  }
}

}  // namespace
}  // namespace modu::engine
