// What all sessions of one listener share: routes, limits, keys, and the counters and the register
// of live sessions that draining needs. Constant but for the atomics and the register; outlives
// every session.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/api/limits.h"
#include "server/http/router.h"

namespace modu::http {

/// One line of the access log, and one sample of the request metrics. Holds no prompt and no key.
struct AccessRecord {
  std::string method, request_id;
  const char* route = "";  // a pattern, "" where none matched
  int status = 0;          // 499: the client went away first
  int64_t bytes_out = 0;
  double seconds = 0, write_seconds = 0;  // the latter: a write was under way
  bool streamed = false;
};

struct Counters {
  std::atomic<int64_t> connections{0}, accepted_total{0}, refused_total{0}, exchanges{0},
      requests_total{0}, cut_off_total{0}, stalled_total{0}, abandoned_total{0},
      bad_framing_total{0};
};

class SessionBase {
 public:
  virtual ~SessionBase() = default;
  virtual void Start() = 0;
  // Any thread: posted to the session's own.
  virtual void CloseIfIdle() = 0;
  virtual void Dismiss() = 0;  // farewell to a stream, 503 to a request without an answer
  virtual void Abort() = 0;
};

class Site {
 public:
  Router router;
  api::Limits limits;
  std::function<bool(std::string_view authorization)> allow_key;  // empty: everything is open
  std::vector<std::string> cors_origins;                          // "*": any
  std::function<void(const AccessRecord&)> on_answer;
  std::atomic<bool> draining{false};
  Counters counters;

  void Register(const std::shared_ptr<SessionBase>& session) {
    std::lock_guard lock(mutex_);
    sessions_.emplace(session.get(), session);
  }
  void Unregister(SessionBase* session) {
    std::lock_guard lock(mutex_);
    sessions_.erase(session);
  }
  std::vector<std::shared_ptr<SessionBase>> Sessions() const {
    std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<SessionBase>> alive;
    alive.reserve(sessions_.size());
    for (const auto& [raw, weak] : sessions_) {
      if (auto session = weak.lock()) alive.push_back(std::move(session));
    }
    return alive;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<SessionBase*, std::weak_ptr<SessionBase>> sessions_;
};

}  // namespace modu::http
