#include "server/generation/admission.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/check.h"

namespace modu::generation {

Admission::Admission(const api::Limits& limits, int32_t max_running)
    : max_choices_(static_cast<int64_t>(limits.max_queued_requests) + max_running),
      max_bytes_(limits.max_queued_bytes),
      max_tokens_(limits.max_queued_tokens) {}

void Admission::set_max_queued_tokens(int64_t tokens) {
  std::lock_guard lock(mu_);
  max_tokens_ = tokens;
}

std::optional<api::ApiError> Admission::Enter(int32_t choices, int64_t bytes, int64_t now_ns) {
  std::lock_guard lock(mu_);
  if (choices > max_choices_) {
    return api::InvalidField("n", "n times the number of prompts must be at most " +
                                      std::to_string(max_choices_) + " on this server");
  }
  if (choices_ + choices > max_choices_) return Full("requests", max_choices_, now_ns);
  if (bytes_ > 0 && bytes_ + bytes > max_bytes_)
    return Full("bytes of queued requests", max_bytes_, now_ns);
  choices_ += choices;
  bytes_ += bytes;
  return std::nullopt;
}

std::optional<api::ApiError> Admission::EnterTokens(int64_t tokens, int64_t now_ns) {
  std::lock_guard lock(mu_);
  if (max_tokens_ > 0 && tokens_ > 0 && tokens_ + tokens > max_tokens_) {
    return Full("queued prompt tokens", max_tokens_, now_ns);
  }
  tokens_ += tokens;
  return std::nullopt;
}

void Admission::LeaveBytes(int64_t bytes) {
  std::lock_guard lock(mu_);
  bytes_ -= bytes;
  MODU_CHECK(bytes_ >= 0);
}

void Admission::LeaveTokens(int64_t tokens) {
  std::lock_guard lock(mu_);
  tokens_ -= tokens;
  MODU_CHECK(tokens_ >= 0);
}

void Admission::LeaveChoices(int32_t choices, int64_t now_ns) {
  std::lock_guard lock(mu_);
  choices_ -= choices;
  MODU_CHECK(choices_ >= 0);
  for (int32_t i = 0; i < choices; ++i) left_ns_[num_left_++ % left_ns_.size()] = now_ns;
}

int64_t Admission::choices() const {
  std::lock_guard lock(mu_);
  return choices_;
}
int64_t Admission::tokens() const {
  std::lock_guard lock(mu_);
  return tokens_;
}
int64_t Admission::bytes() const {
  std::lock_guard lock(mu_);
  return bytes_;
}

api::ApiError Admission::Full(const char* what, int64_t limit, int64_t now_ns) const {
  api::ApiError error = api::MakeError(
      503, "the server is full: at most " + std::to_string(limit) + " " + what + " at once",
      "queue_full");
  // Time until half of the queue has left at the rate of the last departures; nothing measured yet:
  // a second.
  double seconds = 1;
  const auto known = std::min<uint64_t>(num_left_, left_ns_.size());
  if (known > 1) {
    const int64_t oldest = left_ns_[(num_left_ - known) % left_ns_.size()];
    const double per_second = static_cast<double>(known) * 1e9 /
                              static_cast<double>(std::max<int64_t>(now_ns - oldest, 1));
    seconds = static_cast<double>(choices_) / 2 / per_second;
  }
  error.retry_after_s = static_cast<int>(std::clamp(std::ceil(seconds), 1.0, 60.0));
  return error;
}

}  // namespace modu::generation
