// Time as a seam: the engine never reads a clock of its own, so that a simulation can hold the
// hands.
#pragma once
#include <chrono>
#include <cstdint>

namespace modu::engine {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t NowNs() const = 0;  // monotonic
};

class SteadyClock final : public Clock {
 public:
  int64_t NowNs() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace modu::engine
