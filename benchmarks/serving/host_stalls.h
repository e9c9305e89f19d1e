// When the machine beneath us stood still: a guest whose processor is taken away sees every gap
// grow, whatever the server does. A thread on each processor wakes every millisecond, before all
// others where the system lets it, and keeps the times when it woke late.
#pragma once
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace modu::benchmark {

/// Seconds since the watch began.
struct Stall {
  double begin_s = 0, end_s = 0;
};

/// Sorted and without overlaps.
std::vector<Stall> Merge(std::vector<Stall> stalls);
/// How much of [begin_s, end_s] merged stalls cover.
double StalledWithin(const std::vector<Stall>& merged, double begin_s, double end_s);

class StallWatch {
 public:
  StallWatch();
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  std::chrono::steady_clock::time_point begin() const { return begin_; }
  /// Ends the watch; merged over all processors: a step waits for the slowest of them.
  std::vector<Stall> Stop();

 private:
  void Watch(int cpu, std::vector<Stall>* stalls) const;

  const std::chrono::steady_clock::time_point begin_;
  std::atomic<bool> stopping_{false};
  std::vector<std::vector<Stall>> stalls_;  // one a processor
  std::vector<std::thread> threads_;
};

}  // namespace modu::benchmark
