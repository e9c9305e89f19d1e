// The figures that claims are made of.
#include "benchmarks/serving/report.h"

#include <random>
#include <vector>

#include "tests/catch.h"

namespace modu::benchmark {
namespace {

TEST_CASE("percentiles are values that were measured, by the nearest rank") {
  std::vector<double> values;
  for (int i = 1000; i >= 1; --i) values.push_back(i);
  const Percentiles p = PercentilesOf(values);
  CHECK(p.p50 == 500);
  CHECK(p.p99 == 990);
  CHECK(p.p999 == 999);
  CHECK(p.maximum == 1000);
  CHECK(PercentilesOf({7}).p50 == 7);
  CHECK(PercentilesOf({}).maximum == 0);
}

TEST_CASE("stalls of several processors are merged, and counted once where they overlap") {
  const std::vector<Stall> merged = Merge({{5, 6}, {1, 2}, {1.5, 3}, {5.2, 5.4}, {8, 9}});
  REQUIRE(merged.size() == 3);
  CHECK(StalledWithin(merged, 0, 10) == Approx(4));
  CHECK(StalledWithin(merged, 1.5, 5.5) == Approx(2));
  CHECK(StalledWithin(merged, 3, 5) == Approx(0));
  CHECK(StalledWithin(merged, 8.5, 8.6) == Approx(0.1));
  CHECK(StalledWithin({}, 0, 10) == 0);
}

TEST_CASE("stalls within any span, against counting hundredths") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<Stall> stalls;
    std::vector<bool> stalled(1000);
    for (int i = 0; i < 8; ++i) {
      const int begin = static_cast<int>(random() % 900),
                end = begin + static_cast<int>(random() % 100);
      stalls.push_back({begin / 100.0, end / 100.0});
      for (int at = begin; at < end; ++at) stalled[at] = true;
    }
    const int begin = static_cast<int>(random() % 1000),
              end = begin + static_cast<int>(random() % (1000 - begin));
    int counted = 0;
    for (int at = begin; at < end; ++at) counted += stalled[at];
    CHECK(StalledWithin(Merge(stalls), begin / 100.0, end / 100.0) ==
          Approx(counted / 100.0).margin(1e-9));
  }
}

TEST_CASE("gaps, with and without what the host took") {
  RunResult result;
  result.wall_s = 2;
  result.stalls = {{0.5, 0.9}};
  RequestRecord request;
  request.status = 200;
  request.sent_s = 0.1;
  request.event_s = {0.2, 0.4, 1.0, 1.1};
  request.output_tokens = 4;
  result.requests = {request};
  const RunSummary summary = Summarize("x", 1, result);
  CHECK(summary.num_failed == 0);
  CHECK(summary.ttft_ms.p50 == Approx(100));
  CHECK(summary.itl_ms.maximum == Approx(600));
  CHECK(summary.itl_less_stalls_ms.maximum == Approx(200));
  CHECK(summary.tpot_ms.p50 == Approx(300));
  CHECK(summary.stalled_s == Approx(0.4));
  CHECK(summary.output_tokens_per_s == Approx(2));
}

}  // namespace
}  // namespace modu::benchmark
