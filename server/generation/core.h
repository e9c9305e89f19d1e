// What all calls of one service share. Calls keep it alive, since a door may hold a call longer
// than the service lives.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/clock.h"
#include "server/generation/admission.h"
#include "server/generation/generation_service.h"
#include "server/generation/prompt_renderer.h"
#include "server/generation/text_threads.h"

namespace modu::generation {

class Call;

struct Core {
  Core(api::ServedModel served, ServiceOptions service_options, const engine::Clock* service_clock,
       telemetry::Metrics* service_metrics);

  uint64_t Random64() const;
  int64_t NowUnixSeconds() const;
  /// Has Run called on the event thread.
  void Schedule(std::shared_ptr<Call> call);
  void Route(engine::RequestId id, std::shared_ptr<Call> call, int32_t choice);
  void Unroute(engine::RequestId id);
  void Remove(uint64_t call_id);

  const api::ServedModel model;
  const ServiceOptions options;
  const engine::Clock* const clock;
  telemetry::Metrics* const metrics;  // may be null
  engine::Engine* engine = nullptr;   // set once, before the first call
  const PromptRenderer renderer;
  Admission admission;

  std::mutex mu;
  bool draining = false;
  std::unordered_map<uint64_t, std::shared_ptr<Call>> calls;
  std::unordered_map<engine::RequestId, std::pair<std::shared_ptr<Call>, int32_t>> routes;
  std::atomic<uint64_t> next_id{1};

  std::mutex events_mu;
  std::vector<std::pair<int64_t, engine::StepEvents>>
      events;  // what the engine delivered, with the time

  // Last: their jobs use what is above.
  TextThreads prompt_threads, side_thread, event_thread;
};

}  // namespace modu::generation
