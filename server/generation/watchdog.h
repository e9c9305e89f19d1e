// Watches that the engine makes steps while it has work: after the soft time without one the server
// is not ready, after the hard time the calls are failed and the process is to end. A thread of its
// own, which sleeps most of a second at a time; Progressing may be asked from any thread.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "engine/clock.h"
#include "engine/engine.h"

namespace modu::generation {

struct WatchdogOptions {
  int64_t soft_ms = 10'000;
  int64_t hard_ms = 60'000;
};

class Watchdog {
 public:
  /// `on_stuck` is called once, on the watchdog's thread, when the hard time is over (fail the
  /// calls, exit non-zero).
  Watchdog(std::function<engine::EngineStats()> stats, const engine::Clock* clock,
           WatchdogOptions options, std::function<void()> on_stuck);
  ~Watchdog();  // stops

  void Start();
  void Stop();

  /// False: there is work and the soft time has gone by without a step.
  bool Progressing();
  /// How long there has been work and no step; 0 when idle.
  int64_t StalledMs();
  /// One look, as the thread does it. For tests.
  void Check();

 private:
  const std::function<engine::EngineStats()> stats_;
  const engine::Clock* const clock_;
  const WatchdogOptions options_;
  const std::function<void()> on_stuck_;

  std::mutex mu_;
  std::condition_variable wake_;
  bool stopping_ = false, fired_ = false;
  bool busy_ = false;
  int64_t busy_since_ns_ = 0;  // first look at which there was work
  std::thread thread_;
};

}  // namespace modu::generation
