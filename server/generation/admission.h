// Places in the queue: choices in flight, bytes of bodies not yet tokenized, prompt tokens not yet
// begun. All counted under one lock before any work is done, so that a burst cannot slip past
// between check and count. Thread-safe.
#pragma once
#include <array>
#include <cstdint>
#include <mutex>
#include <optional>

#include "server/api/error.h"
#include "server/api/limits.h"

namespace modu::generation {

class Admission {
 public:
  /// max_running: choices that the engine runs at once; max_queued_requests more may wait.
  Admission(const api::Limits& limits, int32_t max_running);
  void set_max_queued_tokens(int64_t tokens);

  /// Takes `choices` places and `bytes`, or neither: 503 with Retry-After (the limit is the
  /// server's).
  std::optional<api::ApiError> Enter(int32_t choices, int64_t bytes, int64_t now_ns);
  /// Once tokenized. A request alone in the queue is let in whatever its size: the engine knows
  /// what can never fit.
  std::optional<api::ApiError> EnterTokens(int64_t tokens, int64_t now_ns);

  void LeaveBytes(int64_t bytes);
  void LeaveTokens(int64_t tokens);
  void LeaveChoices(int32_t choices, int64_t now_ns);

  int64_t choices() const;
  int64_t tokens() const;
  int64_t bytes() const;

 private:
  api::ApiError Full(const char* what, int64_t limit, int64_t now_ns) const;  // with mu_ held

  mutable std::mutex mu_;
  const int64_t max_choices_, max_bytes_;
  int64_t max_tokens_;
  int64_t choices_ = 0, bytes_ = 0, tokens_ = 0;
  std::array<int64_t, 64> left_ns_{};  // when the last choices left: the drain rate
  uint64_t num_left_ = 0;
};

}  // namespace modu::generation
