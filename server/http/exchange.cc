#include "server/http/exchange.h"

namespace modu::http {
namespace {

// While no write is in flight it is our I/O thread that is behind, not the reader: it gets more
// room before the memory bound must hold all the same.
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

void Exchange::OpenStream(const StreamBounds& bounds) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kWaiting) return;
  state_ = State::kStreaming;
  opened_ = true;
  bounds_ = bounds;
  WakeLocked(lock);
}

bool Exchange::Push(std::string_view events, int num_events) {
  std::unique_lock lock(mutex_);
  if (state_ != State::kStreaming || cut_off_) return false;
  if (events.empty()) return true;
  const int64_t factor = in_flight_bytes_ > 0 ? 1 : kOwnDelayFactor;
  const int64_t bytes = static_cast<int64_t>(pending_.size() + events.size()) + in_flight_bytes_;
  if (bytes > bounds_.max_bytes * factor ||
      pending_events_ + num_events + in_flight_events_ > bounds_.max_events * factor) {
    cut_off_ = true;
    pending_.clear();
    pending_.shrink_to_fit();
    lock.unlock();
    wake_();  // always: a session stuck in a write has not taken the last wake
    return false;
  }
  pending_.append(events);
  pending_events_ += num_events;
  WakeLocked(lock);
  return true;
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
  taken.events = static_cast<int>(pending_events_);
  out->swap(pending_);
  in_flight_bytes_ = static_cast<int64_t>(out->size());
  in_flight_events_ = pending_events_;
  pending_events_ = 0;
  return taken;
}

void Exchange::Written() {
  std::unique_lock lock(mutex_);
  in_flight_bytes_ = in_flight_events_ = 0;
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
