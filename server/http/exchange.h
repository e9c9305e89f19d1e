// One request and its answer. The session makes it, a handler keeps it for as long as it has
// something to say, from any thread: either one Respond, or OpenStream, Push..., EndStream. Nothing
// here blocks: what is said waits in a buffer of bounded bytes for the session's I/O thread, which
// takes all of it in one write. While the reader is behind, the handler may hold what it would say
// and say it in one when it is asked. A reader that falls behind the bound is cut off. Held by
// shared_ptr; outlives the session, whose side is the second half.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace modu::http {

struct HttpRequest {
  std::string method, path;  // path decoded, without the query
  std::string path_rest;     // what a route ending in "/*" matched there
  std::string query;
  std::string body;
  std::string request_id;  // the client's X-Request-Id if it is sane, else ours
  const char* route = "";  // pattern, for logs and metrics: a bounded set
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

struct StreamBounds {
  int64_t max_bytes = 256 << 10;  // that wait for the reader; past it, it is cut off
  int64_t max_events = 256;       // that wait for our own I/O thread; past it, more may be held
};

class Exchange {
 public:
  /// `wake` is called whenever there is something new to take; any thread, never under the lock.
  Exchange(HttpRequest request, std::function<void()> wake);

  const HttpRequest& request() const { return request_; }
  /// The handler's, once: the body is not copied into a parser.
  std::string TakeBody() { return std::move(request_.body); }

  void Respond(HttpResponse response);
  /// 200 and the headers of an event stream. `bounds` counts what the client has not yet taken from
  /// us. `on_take` is called on the I/O thread when it is about to take what was said, if something
  /// is held.
  void OpenStream(const StreamBounds& bounds, std::function<void()> on_take = {});
  /// Whole events. False: the stream is gone (reader vanished or cut off) and nothing more needs
  /// saying.
  bool Push(std::string_view events, int num_events = 1);
  /// Whether the handler may hold what it would say now, about `bytes` of it: a write is under way
  /// that the reader did not take at once, or the I/O thread is far behind. It then counts as
  /// waiting, and is to be given with Release when `on_take` is called, or before the next Push.
  /// The decision and the holding are one step, under a lock of the handler's that `on_take` takes
  /// too.
  bool Hold(int64_t bytes);
  /// A write is under way that the reader did not take at once.
  bool behind() const { return write_waits_.load(std::memory_order_relaxed); }
  /// All that was held, as whole events; no bound cuts it off.
  void Release(std::string_view events, int num_events);
  void EndStream(std::string_view last_events = {});

  /// Called once, on the I/O thread or at once, if the client goes away, or is cut off, before the
  /// answer is complete.
  void SetOnAbandoned(std::function<void()> on_abandoned);
  bool abandoned() const;

  /// What goes out if the server must end this exchange itself (drain deadline); any thread.
  void SetFarewell(std::function<std::string()> farewell);

  // The session's side, I/O thread only.
  struct Taken {
    bool responded = false, opened = false, ended = false, cut_off = false;
  };
  /// Swaps everything pending into `out` (which is cleared first). What is taken counts against the
  /// bounds until Written, so that one write is in flight at a time.
  Taken Take(std::string* out, HttpResponse* response);
  /// The reader did not take all of the write at once: until Written it is behind.
  void WriteWaits();
  void Written();
  /// The client is gone, or never comes back.
  void Abandon();
  /// Ends a stream from the server's side with its farewell; a request without an answer yet gets
  /// `response`.
  void Dismiss(HttpResponse response);

 private:
  enum class State : uint8_t { kWaiting, kResponded, kStreaming, kEnded, kAbandoned };
  void WakeLocked(std::unique_lock<std::mutex>& lock);
  /// What is held comes in; opens the lock meanwhile.
  void AskHeldLocked(std::unique_lock<std::mutex>& lock);
  /// Whether `bytes` more fit, with all that waits. If not, the reader is cut off.
  bool FitsLocked(int64_t bytes, std::unique_lock<std::mutex>& lock);

  HttpRequest request_;
  const std::function<void()> wake_;

  mutable std::mutex mutex_;
  State state_ = State::kWaiting;
  bool opened_ = false, opened_taken_ = false, wake_pending_ = false, cut_off_ = false;
  std::atomic<bool> write_waits_{false};  // written under the lock
  HttpResponse response_;
  StreamBounds bounds_;
  std::string pending_;
  int64_t pending_events_ = 0, held_bytes_ = 0, in_flight_bytes_ = 0;
  std::function<void()> on_take_;  // set once, before anything is held
  std::function<void()> on_abandoned_;
  std::function<std::string()> farewell_;
};

}  // namespace modu::http
