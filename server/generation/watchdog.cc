#include "server/generation/watchdog.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace modu::generation {

Watchdog::Watchdog(std::function<engine::EngineStats()> stats, const engine::Clock* clock,
                   WatchdogOptions options, std::function<void()> on_stuck)
    : stats_(std::move(stats)), clock_(clock), options_(options), on_stuck_(std::move(on_stuck)) {}

Watchdog::~Watchdog() { Stop(); }

void Watchdog::Start() {
  thread_ = std::thread([this] {
    const auto interval =
        std::chrono::milliseconds(std::clamp<int64_t>(options_.soft_ms / 4, 10, 1000));
    std::unique_lock lock(mu_);
    while (!wake_.wait_for(lock, interval, [this] { return stopping_; })) {
      lock.unlock();
      Check();
      lock.lock();
    }
  });
}

void Watchdog::Stop() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

int64_t Watchdog::StalledMs() {
  const engine::EngineStats stats = stats_();
  const int64_t now = clock_->NowNs();
  std::lock_guard lock(mu_);
  if (stats.num_running + stats.num_waiting == 0 && stats.step_started_ns == 0) {
    busy_ = false;
    return 0;
  }
  // The last step of an engine that has been idle may be hours old: time counts from when work was
  // first seen.
  if (!std::exchange(busy_, true)) busy_since_ns_ = now;
  int64_t since = std::max(stats.last_step_ns, busy_since_ns_);
  // A step in flight says exactly how long it has been running, unless others were finished
  // meanwhile.
  if (stats.step_started_ns != 0 && stats.step_started_ns > stats.last_step_ns) {
    since = std::min(since, stats.step_started_ns);
  }
  return std::max<int64_t>(now - since, 0) / 1'000'000;
}

bool Watchdog::Progressing() { return StalledMs() < options_.soft_ms; }

void Watchdog::Check() {
  if (StalledMs() < options_.hard_ms) return;
  {
    std::lock_guard lock(mu_);
    if (std::exchange(fired_, true)) return;
  }
  on_stuck_();
}

}  // namespace modu::generation
