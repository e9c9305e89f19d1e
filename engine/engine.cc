#include "engine/engine.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "engine/engine_core.h"
#include "engine/request/validate.h"
#include "kernels/check.h"

namespace modu::engine {
namespace {

constexpr int64_t kSelfCheckEveryNs = 1'000'000'000;

}  // namespace

struct Engine::Impl {
  using Command = std::variant<Request, RequestId>;  // submit, cancel: in the order they came

  Impl(std::unique_ptr<ModelRunner> runner, const EngineOptions& options, const Clock* clock,
       EventSink* sink)
      : clock(clock),
        spec(runner->spec()),
        sink(sink),
        core(std::move(runner), options, clock, sink) {
    max_kv_tokens = core.max_kv_tokens();
    core.set_on_wait(
        [](void* self, int64_t launched_ns) {
          static_cast<Impl*>(self)->step_started_ns.store(launched_ns, std::memory_order_relaxed);
        },
        this);
    core.WatchArrivals(&arrived);
    core.set_before_deliver([](void* self) { static_cast<Impl*>(self)->Publish(); }, this);
    Publish();
  }

  void Loop();
  bool TakeInbox(bool may_sleep);
  void Turn();
  void Publish();
  void CheckWhenIdle();

  const Clock* clock;
  const RunnerSpec spec;
  EventSink* const sink;
  int32_t max_kv_tokens = 0;

  std::mutex inbox_mutex;
  std::condition_variable inbox_filled;
  std::vector<Command> inbox;  // guarded by inbox_mutex, as the next two are
  int32_t inbox_requests = 0;
  bool stopping = false;
  std::atomic<bool> arrived{false};  // inbox_requests > 0: what a step that runs may look at
  std::thread thread;
  std::mutex stop_mutex;  // Stop may come from two threads
  bool stopped = false;   // guarded by stop_mutex

  // Engine thread only (or whoever drives RunOnce).
  EngineCore core;
  std::vector<Command> taken;
  uint64_t self_check_failures = 0;
  uint64_t checked_at_step = 0;
  int64_t checked_ns = 0;
  bool stuck = false;  // work there is, but nothing moved: sleep a little instead of spinning

  std::atomic<int64_t> step_started_ns{0};
  mutable std::mutex stats_mutex;
  EngineStats stats;  // guarded by stats_mutex
};

bool Engine::Impl::TakeInbox(bool may_sleep) {
  std::unique_lock lock(inbox_mutex);
  if (may_sleep && inbox.empty() && !stopping) {
    if (core.idle()) {
      inbox_filled.wait(lock, [this] { return !inbox.empty() || stopping; });
    } else if (stuck) {
      inbox_filled.wait_for(lock, std::chrono::milliseconds(1));
    }
  }
  if (may_sleep && stopping) return false;  // what is left is Stop's
  taken.swap(inbox);
  inbox_requests = 0;
  arrived.store(false, std::memory_order_relaxed);
  if (!taken.empty()) {
    // Still under the lock, so that Stats never misses a request between the inbox and the core's
    // own count.
    const std::lock_guard stats_lock(stats_mutex);
    for (const Command& command : taken)
      stats.num_waiting += std::holds_alternative<Request>(command) ? 1 : 0;
  }
  return true;
}

void Engine::Impl::Turn() {
  for (Command& command : taken) {
    if (Request* request = std::get_if<Request>(&command)) {
      core.Add(std::move(*request));
    } else {
      core.Cancel(std::get<RequestId>(command));
    }
  }
  const bool had_commands = !taken.empty();
  taken.clear();
  stuck = !core.RunOnce() && !had_commands;
  CheckWhenIdle();
  Publish();
}

void Engine::Impl::CheckWhenIdle() {
  if (!core.idle()) return;
  EngineStats now;
  core.FillStats(&now);
  const int64_t now_ns = clock->NowNs();
  if (now.num_steps == checked_at_step || now_ns - checked_ns < kSelfCheckEveryNs) return;
  checked_at_step = now.num_steps;
  checked_ns = now_ns;
  StepEvents events;
  events.broken_invariant = core.SelfCheck();
  if (events.broken_invariant.empty()) return;
  ++self_check_failures;
  sink->Deliver(std::move(events));
}

void Engine::Impl::Publish() {
  const std::lock_guard lock(stats_mutex);
  core.FillStats(&stats);
  stats.self_check_failures = self_check_failures;
}

void Engine::Impl::Loop() {
  while (TakeInbox(/*may_sleep=*/true)) Turn();
}

Engine::Engine(std::unique_ptr<ModelRunner> runner, EngineOptions options, const Clock* clock,
               EventSink* sink)
    : impl_(std::make_unique<Impl>(std::move(runner), options, clock, sink)) {}

Engine::~Engine() { Stop(); }

void Engine::Start() {
  MODU_CHECK(!impl_->thread.joinable());
  impl_->thread = std::thread([impl = impl_.get()] { impl->Loop(); });
  pthread_setname_np(impl_->thread.native_handle(), "modu-engine");
}

void Engine::Stop() {
  const std::lock_guard stop_lock(impl_->stop_mutex);
  if (impl_->stopped) return;
  impl_->stopped = true;
  {
    const std::lock_guard lock(impl_->inbox_mutex);
    impl_->stopping = true;
  }
  impl_->inbox_filled.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
  // The thread is gone; what it left, and what came in too late for it, ends here.
  impl_->TakeInbox(/*may_sleep=*/false);
  for (Impl::Command& command : impl_->taken) {
    if (Request* request = std::get_if<Request>(&command)) impl_->core.Add(std::move(*request));
  }
  impl_->taken.clear();
  impl_->core.FinishAll();
  impl_->Publish();
}

absl::Status Engine::Submit(Request request) {
  if (absl::Status status = ValidateRequest(request, impl_->spec, impl_->max_kv_tokens);
      !status.ok())
    return status;
  {
    const std::lock_guard lock(impl_->inbox_mutex);
    if (impl_->stopping) return absl::UnavailableError("the server is stopping");
    impl_->inbox.emplace_back(std::move(request));
    ++impl_->inbox_requests;
    impl_->arrived.store(true, std::memory_order_relaxed);
  }
  impl_->inbox_filled.notify_one();
  return absl::OkStatus();
}

void Engine::Cancel(RequestId id) {
  {
    const std::lock_guard lock(impl_->inbox_mutex);
    if (impl_->stopping) return;  // everything ends as cancelled anyway
    impl_->inbox.emplace_back(id);
  }
  impl_->inbox_filled.notify_one();
}

EngineStats Engine::Stats() const {
  const std::lock_guard inbox_lock(impl_->inbox_mutex);
  const std::lock_guard lock(impl_->stats_mutex);
  EngineStats stats = impl_->stats;
  stats.num_waiting += impl_->inbox_requests;
  stats.step_started_ns = impl_->step_started_ns.load(std::memory_order_relaxed);
  return stats;
}

const RunnerSpec& Engine::spec() const { return impl_->spec; }

bool Engine::RunOnce() {
  impl_->TakeInbox(/*may_sleep=*/false);
  const bool had_commands = !impl_->taken.empty();
  impl_->Turn();
  return had_commands || !impl_->stuck || !impl_->core.idle();
}

std::string Engine::SelfCheck() const { return impl_->core.SelfCheck(); }

}  // namespace modu::engine
