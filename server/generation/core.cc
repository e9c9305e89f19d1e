#include "server/generation/core.h"

#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "kernels/check.h"
#include "server/generation/call.h"

namespace modu::generation {
namespace {

// One thread renders and tokenizes some megabytes a second, thousands of ordinary prompts: a small
// machine's cores are better left to the engine.
int NumPromptThreads(const ServiceOptions& options) {
  if (options.num_text_threads > 0) return options.num_text_threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 8, 1, 16);
}

}  // namespace

Core::Core(api::ServedModel served, ServiceOptions service_options,
           const engine::Clock* service_clock, telemetry::Metrics* service_metrics)
    : model(std::move(served)),
      options(std::move(service_options)),
      clock(service_clock),
      metrics(service_metrics),
      renderer(&model),
      admission(options.limits, options.max_running),
      prompt_threads(NumPromptThreads(options), "modu-prompt"),
      side_thread(1, "modu-text"),
      event_thread(1, "modu-events") {}

uint64_t Core::Random64() const {
  if (options.random64) return options.random64();
  uint64_t value = 0;
  MODU_CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

int64_t Core::NowUnixSeconds() const {
  if (options.now_unix_s) return options.now_unix_s();
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void Core::Schedule(std::shared_ptr<Call> call) {
  event_thread.Post([call = std::move(call)] { call->Run(); });
}

void Core::Route(engine::RequestId id, std::shared_ptr<Call> call, int32_t choice) {
  std::lock_guard lock(mu);
  routes.emplace(id, std::pair(std::move(call), choice));
}

void Core::Unroute(engine::RequestId id) {
  std::lock_guard lock(mu);
  routes.erase(id);
}

void Core::Remove(uint64_t call_id) {
  std::shared_ptr<Call> last;  // destroyed after the lock is free
  std::lock_guard lock(mu);
  const auto found = calls.find(call_id);
  if (found == calls.end()) return;
  last = std::move(found->second);
  calls.erase(found);
}

}  // namespace modu::generation
