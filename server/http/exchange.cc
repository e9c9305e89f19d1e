#include "server/http/exchange.h"

namespace modu::http {
namespace {

// While no write waits for the reader it is our I/O thread that is behind: it gets more room before
// the memory bound must hold all the same.
constexpr int64_t kOwnDelayFactor = 8;

}  // namespace

Exchange::Exchange(HttpRequest request, std::function<void()> wake)
    : request_(std::move(request)), wake_(std::move(wake)) {}

void Exchange::WakeLocked(std::unique_lock<std::mutex>& lock) {
  if (wake_pending_) return;
  wake_pending_ = true;
  lock.unlock();
  wake_();
}

void Exchange::Respond(HttpResponse response) {
  std::function<void()> dropped;  // may own the call, and through it this
  std::unique_lock lock(mutex_);
  if (state_ != State::kWaiting) return;
  state_ = State::kResponded;
  response_ = std::move(response);
  dropped.swap(on_abandoned_);
  WakeLocked(lock);
}

void Exchange::OpenStream(const StreamBounds& bounds, std::function<void()> on_take) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kWaiting) return;
  state_ = State::kStreaming;
  opened_ = true;
  bounds_ = bounds;
  on_take_ = std::move(on_take);
  WakeLocked(lock);
}

bool Exchange::FitsLocked(int64_t bytes, std::unique_lock<std::mutex>& lock) {
  const int64_t factor = write_waits_ ? 1 : kOwnDelayFactor;
  const int64_t waiting = static_cast<int64_t>(pending_.size()) + held_bytes_ + in_flight_bytes_;
  if (waiting + bytes <= bounds_.max_bytes * factor) return true;
  cut_off_ = true;
  pending_.clear();
  pending_.shrink_to_fit();
  lock.unlock();
  wake_();  // always: a session stuck in a write has not taken the last wake
  return false;
}

bool Exchange::Push(std::string_view events, int num_events) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming || cut_off_) return false;
  if (events.empty()) return true;
  if (!FitsLocked(static_cast<int64_t>(events.size()), lock)) return false;
  pending_.append(events);
  pending_events_ += num_events;
  WakeLocked(lock);
  return true;
}

bool Exchange::Hold(int64_t bytes) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming || cut_off_) return false;
  if (!on_take_ || (!write_waits_ && pending_events_ < bounds_.max_events)) return false;
  if (!FitsLocked(bytes, lock)) return false;
  held_bytes_ += bytes;
  return true;
}

void Exchange::Release(std::string_view events, int num_events) {
  std::unique_lock lock(mutex_);
  held_bytes_ = 0;
  if (state_ != State::kStreaming || cut_off_) return;
  pending_.append(events);
  pending_events_ += num_events;
}

void Exchange::AskHeldLocked(std::unique_lock<std::mutex>& lock) {
  if (held_bytes_ == 0) return;
  lock.unlock();
  on_take_();
  lock.lock();
}

void Exchange::EndStream(std::string_view last_events) {
  std::function<void()> dropped;
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming || cut_off_) return;
  state_ = State::kEnded;
  dropped.swap(on_abandoned_);
  pending_.append(last_events);
  WakeLocked(lock);
}

void Exchange::SetOnAbandoned(std::function<void()> on_abandoned) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kAbandoned) {
    lock.unlock();
    on_abandoned();
    return;
  }
  if (state_ == State::kWaiting || state_ == State::kStreaming)
    on_abandoned_ = std::move(on_abandoned);
}

bool Exchange::abandoned() const {
  std::unique_lock lock(mutex_);
  return state_ == State::kAbandoned || cut_off_;
}

void Exchange::SetFarewell(std::function<std::string()> farewell) {
  std::unique_lock lock(mutex_);
  farewell_ = std::move(farewell);
}

Exchange::Taken Exchange::Take(std::string* out, HttpResponse* response) {
  std::unique_lock lock(mutex_);
  AskHeldLocked(lock);
  wake_pending_ = false;
  out->clear();
  Taken taken;
  taken.cut_off = cut_off_;
  if (state_ == State::kResponded) {
    taken.responded = true;
    *response = std::move(response_);
    return taken;
  }
  taken.opened = opened_ && !opened_taken_;
  opened_taken_ = opened_;
  taken.ended = state_ == State::kEnded;
  out->swap(pending_);
  in_flight_bytes_ = static_cast<int64_t>(out->size());
  pending_events_ = 0;
  if (held_bytes_ > 0) WakeLocked(lock);  // held after it was asked for
  return taken;
}

void Exchange::WriteWaits() {
  std::unique_lock lock(mutex_);
  write_waits_ = true;
}

void Exchange::Written() {
  std::unique_lock lock(mutex_);
  in_flight_bytes_ = 0;
  write_waits_ = false;
}

void Exchange::Abandon() {
  std::function<void()> on_abandoned;
  {
    std::unique_lock lock(mutex_);
    if (state_ == State::kAbandoned) return;
    const bool complete = state_ == State::kResponded || state_ == State::kEnded;
    state_ = State::kAbandoned;
    pending_.clear();
    farewell_ = nullptr;
    on_abandoned.swap(on_abandoned_);
    if (complete) on_abandoned = nullptr;
  }
  if (on_abandoned) on_abandoned();
}

void Exchange::Dismiss(HttpResponse response) {
  std::function<void()> on_abandoned;
  std::unique_lock lock(mutex_);
  AskHeldLocked(lock);
  if (state_ == State::kWaiting) {
    state_ = State::kResponded;
    response_ = std::move(response);
  } else if (state_ == State::kStreaming && !cut_off_) {
    state_ = State::kEnded;
    if (farewell_) pending_.append(farewell_());
  } else {
    return;
  }
  on_abandoned.swap(on_abandoned_);
  WakeLocked(lock);
  if (lock.owns_lock()) lock.unlock();
  if (on_abandoned) on_abandoned();
}

}  // namespace modu::http
