#include "benchmarks/serving/host_stalls.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace modu::benchmark {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(1);
constexpr auto kLate = std::chrono::microseconds(500);  // a wake-up itself takes 50 to 100

double Seconds(Clock::duration span) { return std::chrono::duration<double>(span).count(); }

}  // namespace

std::vector<Stall> Merge(std::vector<Stall> stalls) {
  std::sort(stalls.begin(), stalls.end(),
            [](const Stall& a, const Stall& b) { return a.begin_s < b.begin_s; });
  std::vector<Stall> merged;
  for (const Stall& stall : stalls) {
    if (merged.empty() || stall.begin_s > merged.back().end_s) {
      merged.push_back(stall);
    } else {
      merged.back().end_s = std::max(merged.back().end_s, stall.end_s);
    }
  }
  return merged;
}

double StalledWithin(const std::vector<Stall>& merged, double begin_s, double end_s) {
  auto stall = std::lower_bound(merged.begin(), merged.end(), begin_s,
                                [](const Stall& s, double at) { return s.end_s <= at; });
  double sum = 0;
  for (; stall != merged.end() && stall->begin_s < end_s; ++stall) {
    sum += std::min(stall->end_s, end_s) - std::max(stall->begin_s, begin_s);
  }
  return sum;
}

StallWatch::StallWatch() : begin_(Clock::now()) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  stalls_.resize(cpus.size());
  for (size_t i = 0; i < cpus.size(); ++i) {
    threads_.emplace_back([this, cpu = cpus[i], stalls = &stalls_[i]] { Watch(cpu, stalls); });
  }
}

StallWatch::~StallWatch() { Stop(); }

std::vector<Stall> StallWatch::Stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  std::vector<Stall> all;
  for (const auto& stalls : stalls_) all.insert(all.end(), stalls.begin(), stalls.end());
  return Merge(std::move(all));
}

void StallWatch::Watch(int cpu, std::vector<Stall>* stalls) const {
  cpu_set_t own;
  CPU_ZERO(&own);
  CPU_SET(cpu, &own);
  pthread_setaffinity_np(pthread_self(), sizeof own, &own);
  // Refused without the right to it; then a busy machine's own scheduling looks like a stall too.
  sched_param first{};
  first.sched_priority = sched_get_priority_min(SCHED_FIFO);
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
  Clock::time_point next = Clock::now();
  while (!stopping_) {
    next += kTick;
    std::this_thread::sleep_until(next);
    const Clock::time_point now = Clock::now();
    if (now - next > kLate) {
      stalls->push_back({Seconds(next - begin_), Seconds(now - begin_)});
      next = now;
    }
  }
}

}  // namespace modu::benchmark
