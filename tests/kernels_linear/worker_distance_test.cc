// Two workers whose caches are far from each other: when that is believed, and that it is measured.
#include "kernels/cpu/worker_distance.h"

#include <atomic>
#include <chrono>
#include <vector>

#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

bool FarAfter(const std::vector<double>& ns) {
  WorkerDistance distance;
  for (const double one : ns) distance.Learn(one);
  return distance.far();
}

TEST_CASE("workers are far from each other when that was seen several times in a row") {
  CHECK_FALSE(FarAfter({}));
  CHECK_FALSE(FarAfter({13, 13}));
  CHECK(FarAfter({13, 8, 13, 18, 13}));
  CHECK_FALSE(FarAfter({13, 13, 13, 13, 13, 1}));
  CHECK_FALSE(FarAfter({13, 13, 1, 13, 13, 1, 13, 13}));
  CHECK(FarAfter({1, 13, 13, 13, 13}));
  CHECK_FALSE(FarAfter({1, 1, 1, 1, 1, 1, 1}));
}

TEST_CASE("that workers are far is forgotten where it can no longer be measured") {
  WorkerDistance distance;
  for (int i = 0; i < 5; ++i) distance.Learn(13);
  distance.Miss();
  distance.Miss();
  CHECK(distance.far());
  distance.Learn(13);
  for (int i = 0; i < 3; ++i) distance.Miss();
  CHECK(distance.far());
  distance.Miss();
  CHECK_FALSE(distance.far());
}

/// A machine that says nothing of its cores, so that all workers take part however busy it is.
CoreTime Unknown(pid_t) { return {}; }

TEST_CASE("the distance of two workers is measured, and their pool works on") {
  WorkerPool pool(2, Unknown);
  WorkerDistance distance;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (int i = 0;
       i < 200 || (distance.num_measured() == 0 && std::chrono::steady_clock::now() < end); ++i) {
    distance.Look(pool);
    std::atomic<int> ran{0};
    pool.Run(7, 1, [&](int first, int last, int) { ran += last - first; });
    REQUIRE(ran == 7);
  }
  CHECK(distance.num_measured() > 0);
}

TEST_CASE("of one worker, or more than two, nothing is measured") {
  for (const int threads : {1, 3, 4}) {
    WorkerPool pool(threads, Unknown);
    WorkerDistance distance;
    for (int i = 0; i < 100; ++i) distance.Look(pool);
    CHECK(distance.num_measured() == 0);
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
