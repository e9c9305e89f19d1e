// How instruction peaks are timed. Included by machine_peak_isa files only, each compiled for its
// own instruction set: unnamed and without library templates, so that the linker picks no copy for
// the others.
#pragma once
#include <time.h>

// An instruction on twelve sums, enough to hide its latency.
#define TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define SUMS \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"

namespace modu::benchmarks {
namespace {

inline double ThreadSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Best of several timings of `rounds` calls of an unrolled body.
template <typename Body>
double BestSeconds(int rounds, const Body& body) {
  double best = 1e9;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double start = ThreadSeconds();
    for (int i = 0; i < rounds; ++i) body();
    const double seconds = ThreadSeconds() - start;
    if (seconds < best) best = seconds;
  }
  return best;
}

}  // namespace
}  // namespace modu::benchmarks
