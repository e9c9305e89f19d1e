// A service over a real engine and a scripted model.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "server/generation/generation_service.h"
#include "server/telemetry/metrics.h"
#include "tests/api/fake_model.h"
#include "tests/generation/recording_sink.h"
#include "tests/generation/scripted_runner.h"

namespace modu::testing {

struct FixtureOptions {
  api::Limits limits;
  int32_t max_running = 8;
  int depth = 2;
  int text_threads = 1;
  int32_t num_blocks = 256;
  std::shared_ptr<const text::ChatTemplate> chat_template;
};

/// The steady clock, and the time that a test lets pass besides.
class AdvancedClock final : public engine::Clock {
 public:
  int64_t NowNs() const override { return steady_.NowNs() + ahead_ns_; }
  void Advance(int64_t ms) { ahead_ns_ += ms * 1'000'000; }

 private:
  engine::SteadyClock steady_;
  std::atomic<int64_t> ahead_ns_{0};
};

class ServiceFixture {
 public:
  explicit ServiceFixture(FixtureOptions options = {}) : metrics("tiny") {
    generation::ServiceOptions service_options;
    service_options.limits = options.limits;
    service_options.num_text_threads = options.text_threads;
    service_options.max_running = options.max_running;
    service = std::make_unique<generation::GenerationService>(FakeModel(options.chat_template),
                                                              service_options, &clock, &metrics);
    engine::EngineOptions engine_options;
    engine_options.max_running = options.max_running;
    engine = std::make_unique<engine::Engine>(
        std::make_unique<ScriptedRunner>(&gate, options.depth, options.num_blocks), engine_options,
        &clock, service.get());
    metrics.SetStatsSource([this] { return engine->Stats(); });
    service->Attach(engine.get());
    engine->Start();
  }
  ~ServiceFixture() {
    gate.Release();
    service->Stop();
    engine.reset();
  }

  static api::GenerationRequest Text(const std::string& prompt, int32_t max_tokens = 200) {
    api::GenerationRequest request;
    request.prompts = {api::TextPrompt{prompt, false}};
    request.sampling.max_tokens = max_tokens;
    request.has_max_tokens = true;
    request.body_bytes = static_cast<int64_t>(prompt.size());
    return request;
  }

  std::shared_ptr<RecordingSink> Run(api::GenerationRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    service->Start(std::move(request), sink);
    sink->WaitEnd();
    return sink;
  }

  /// A value in the metrics' text, or -1.
  double Metric(const std::string& name, const std::string& label = "") {
    const std::string text = metrics.Scrape();
    for (size_t at = 0; (at = text.find("\n" + name, at)) != std::string::npos; ++at) {
      const size_t end = text.find('\n', at + 1);
      const std::string line = text.substr(at + 1, end - at - 1);
      if (line[name.size()] != '{' && line[name.size()] != ' ') continue;
      if (label.empty() || line.find(label) != std::string::npos)
        return std::stod(line.substr(line.rfind(' ')));
    }
    return -1;
  }

  AdvancedClock clock;
  StepGate gate;
  telemetry::Metrics metrics;
  std::unique_ptr<generation::GenerationService> service;
  std::unique_ptr<engine::Engine> engine;
};

}  // namespace modu::testing
