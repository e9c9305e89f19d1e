#include "server/telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "server/telemetry/log.h"
#include "server/telemetry/process_metrics.h"

namespace modu::telemetry {
namespace {

using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Histogram;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Buckets = Histogram::BucketBoundaries;

// vLLM's boundaries with finer ones below: a small model answers in milliseconds.
const Buckets kFirstToken = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                             1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kInterToken = {.001, .002, .004, .006, .008, .01, .025, .05, .075, .1, .15, .2,
                             .3,   .4,   .5,   .75,  1,    2.5, 5,    7.5, 10,   20, 40,  80};
const Buckets kRequest = {.001, .002, .005, .01, .02, .05, .1,  .2,   .3,  .5,
                          .8,   1,    1.5,  2,   2.5, 5,   10,  15,   20,  30,
                          40,   50,   60,   120, 240, 480, 960, 1920, 7680};
const Buckets kStage = {1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, .001, .002, .005, .01,
                        .02,  .05,  .1,   .2,   .5,   1,    2,    5,    10};
const Buckets kTokens = {1,    2,    5,     10,    20,    50,     100,    200,    500,    1000,
                         2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000};
const Buckets kChoices = {1, 2, 5, 10, 20};
const Buckets kStepTokens = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

constexpr std::array kOutcomes = {"done", "cancelled", "failed", "expired", "rejected"};
constexpr std::array kFinishes = {"stop", "length", "abort", "error", "timeout"};
constexpr std::array kFailures = {"invalid_request", "context_length_exceeded",
                                  "queue_full",      "queue_timeout",
                                  "deadline",        "numeric_error",
                                  "internal",        "unavailable",
                                  "shutting_down",   "not_found",
                                  "unauthorized",    "rate_limit_exceeded",
                                  "engine_stuck",    "other"};
constexpr std::array kStages = {"render", "tokenize",   "schedule", "forward",
                                "sample", "detokenize", "write",    "other"};

// Families that vLLM has under the same name.
const std::set<std::string_view>& VllmNames() {
  static const auto* names = new std::set<std::string_view>{
      "num_requests_running",
      "num_requests_waiting",
      "kv_cache_usage_perc",
      "cache_config_info",
      "prompt_tokens_total",
      "generation_tokens_total",
      "prompt_tokens_cached_total",
      "prompt_tokens_recomputed_total",
      "prefix_cache_queries_total",
      "prefix_cache_hits_total",
      "num_preemptions_total",
      "request_success_total",
      "admission_rejections_total",
      "time_to_first_token_seconds",
      "inter_token_latency_seconds",
      "request_time_per_output_token_seconds",
      "e2e_request_latency_seconds",
      "request_queue_time_seconds",
      "request_inference_time_seconds",
      "request_prefill_time_seconds",
      "request_decode_time_seconds",
      "request_prompt_tokens",
      "request_generation_tokens",
      "request_max_num_generation_tokens",
      "request_params_max_tokens",
      "request_prefill_kv_computed_tokens",
      "request_params_n",
      "iteration_tokens_total",
      "spec_decode_num_drafts_total",
      "spec_decode_num_draft_tokens_total",
      "spec_decode_num_accepted_tokens_total",
  };
  return *names;
}

// One label value a key, made beforehand: nothing that a client sends becomes a label.
class CounterSet {
 public:
  template <size_t N>
  CounterSet(Family<Counter>* family, const char* label, const std::array<const char*, N>& values) {
    for (const char* value : values) counters_.emplace(value, &family->Add({{label, value}}));
  }
  void Increment(std::string_view value) {
    auto found = counters_.find(value);
    if (found == counters_.end()) found = counters_.find("other");
    if (found != counters_.end()) found->second->Increment();
  }

 private:
  std::map<std::string, Counter*, std::less<>> counters_;
};

double Seconds(int64_t from_ns, int64_t to_ns) {
  return static_cast<double>(std::max<int64_t>(to_ns - from_ns, 0)) * 1e-9;
}

// Label values must be UTF-8 on one line; the serializer escapes quotes and line ends.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '_';
  }
  return text;
}

}  // namespace

struct Metrics::Impl {
  Impl(std::string model_name, const engine::Clock* engine_clock);

  Histogram& NewHistogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram()
        .Name(std::string("modu_") + name)
        .Help(help)
        .Labels(base)
        .Register(registry)
        .Add({}, buckets);
  }
  Family<Counter>& NewCounters(const std::string& name, const char* help) {
    return prometheus::BuildCounter()
        .Name("modu_" + name)
        .Help(help)
        .Labels(base)
        .Register(registry);
  }
  void Add(const char* name, const char* help, MetricType type, double value,
           std::vector<MetricFamily>* out) const;
  void AddEngine(std::vector<MetricFamily>* out) const;

  const engine::SteadyClock steady;
  const engine::Clock* const clock;
  const Labels base;
  prometheus::Registry registry;

  std::atomic<uint64_t> received{0}, ended{0};
  Counter &received_total, &generated_total;
  CounterSet outcomes, finishes, failures, rejections;
  Histogram &first_token, &inter_token, &per_output_token, &e2e, &queue, &inference, &prefill,
      &decode;
  Histogram &prompt_tokens, &generation_tokens, &max_generation_tokens, &max_tokens, &kv_computed,
      &choices, &step;
  std::map<std::string, Histogram*, std::less<>> stages;
  Family<Counter>& http_requests;
  Family<Histogram>& http_seconds;
  Family<Counter>& grpc_requests;
  Family<Histogram>& grpc_seconds;

  mutable std::mutex mu;
  std::map<std::string, std::set<std::string>> label_values;  // of Count
  std::set<std::string> routes;
  std::vector<MetricFamily> infos;
  struct Source {
    const char* name;
    const char* help;
    MetricType type;
    std::function<double()> read;
  };
  std::vector<Source> sources;
  std::function<engine::EngineStats()> stats;
};

Metrics::Impl::Impl(std::string model_name, const engine::Clock* engine_clock)
    : clock(engine_clock != nullptr ? engine_clock : &steady),
      base({{"model_name", Printable(std::move(model_name))}, {"engine", "0"}}),
      received_total(
          NewCounters("requests_received_total", "Generation requests that came in.").Add({})),
      generated_total(NewCounters("generation_tokens_total",
                                  "Tokens generated, as usage counts them: without those that were "
                                  "computed beyond a stop string.")
                          .Add({})),
      outcomes(&NewCounters("requests_ended_total",
                            "Requests by how they ended; with those in flight, all received."),
               "outcome", kOutcomes),
      finishes(
          &NewCounters("request_success_total",
                       "Requests that ran, by finish reason, whatever it is (the name is vLLM's)."),
          "finished_reason", kFinishes),
      failures(&NewCounters("requests_failed_total",
                            "Requests that did not get their answer, by reason."),
               "reason", kFailures),
      rejections(&NewCounters("admission_rejections_total", "Requests refused before any work."),
                 "reason",
                 std::array{"queue_full", "shutting_down", "rate_limit_exceeded", "other"}),
      first_token(
          NewHistogram("time_to_first_token_seconds", "Arrival to first token.", kFirstToken)),
      inter_token(NewHistogram("inter_token_latency_seconds", "Between tokens of one choice.",
                               kInterToken)),
      per_output_token(
          NewHistogram("request_time_per_output_token_seconds",
                       "Decode time by output tokens after the first, of a request's first "
                       "choice.",
                       kInterToken)),
      e2e(NewHistogram("e2e_request_latency_seconds", "Arrival to end.", kRequest)),
      queue(NewHistogram("request_queue_time_seconds", "Arrival to first scheduled.", kRequest)),
      inference(NewHistogram("request_inference_time_seconds", "First scheduled to last token.",
                             kRequest)),
      prefill(NewHistogram("request_prefill_time_seconds", "First scheduled to first token.",
                           kRequest)),
      decode(NewHistogram("request_decode_time_seconds", "First to last token.", kRequest)),
      prompt_tokens(NewHistogram("request_prompt_tokens", "Prompt tokens of a request.", kTokens)),
      generation_tokens(
          NewHistogram("request_generation_tokens", "Output tokens of a request.", kTokens)),
      max_generation_tokens(NewHistogram("request_max_num_generation_tokens",
                                         "Output tokens of a request's longest choice.", kTokens)),
      max_tokens(NewHistogram("request_params_max_tokens", "max_tokens asked for.", kTokens)),
      kv_computed(NewHistogram("request_prefill_kv_computed_tokens",
                               "Prompt tokens not found in the cache.", kTokens)),
      choices(NewHistogram("request_params_n", "n asked for.", kChoices)),
      step(NewHistogram("iteration_tokens_total", "Tokens that an engine step computed.",
                        kStepTokens)),
      http_requests(NewCounters("http_requests_total", "HTTP answers by route and status.")),
      http_seconds(prometheus::BuildHistogram()
                       .Name("modu_http_request_duration_seconds")
                       .Help("HTTP requests, first byte in to last byte out.")
                       .Labels(base)
                       .Register(registry)),
      grpc_requests(NewCounters("grpc_requests_total", "gRPC calls by method and status code.")),
      grpc_seconds(prometheus::BuildHistogram()
                       .Name("modu_grpc_request_duration_seconds")
                       .Help("gRPC calls, from their request to their status.")
                       .Labels(base)
                       .Register(registry)) {
  Family<Histogram>& family = prometheus::BuildHistogram()
                                  .Name("modu_stage_seconds")
                                  .Help("Time spent in one stage of serving.")
                                  .Labels(base)
                                  .Register(registry);
  for (const char* stage : kStages) stages.emplace(stage, &family.Add({{"stage", stage}}, kStage));
}

Metrics::Metrics(std::string model_name, const engine::Clock* clock)
    : impl_(std::make_unique<Impl>(std::move(model_name), clock)) {}
Metrics::~Metrics() = default;

void Metrics::CallReceived() {
  impl_->received.fetch_add(1, std::memory_order_relaxed);
  impl_->received_total.Increment();
}

void Metrics::CallEnded(const CallRecord& record) {
  Impl& m = *impl_;
  m.ended.fetch_add(1, std::memory_order_relaxed);
  m.outcomes.Increment(record.outcome);
  if (!record.failure.empty()) m.failures.Increment(record.failure);
  if (record.outcome == "rejected" &&
      (record.failure == "queue_full" || record.failure == "shutting_down" ||
       record.failure == "rate_limit_exceeded")) {
    m.rejections.Increment(record.failure);
  }
  if (!record.finish_reason.empty()) m.finishes.Increment(record.finish_reason);

  const engine::RequestTimes& t = record.times;
  if (t.first_scheduled_ns == 0) return;  // never ran: its zeros would only blur the histograms
  m.queue.Observe(Seconds(t.arrival_ns, t.first_scheduled_ns));
  m.e2e.Observe(Seconds(t.arrival_ns, t.finished_ns));
  m.prompt_tokens.Observe(record.prompt_tokens);
  m.kv_computed.Observe(std::max(0, record.prompt_tokens - record.cached_tokens));
  m.generation_tokens.Observe(record.generation_tokens);
  m.max_generation_tokens.Observe(record.longest_choice_tokens);
  m.max_tokens.Observe(record.max_tokens);
  m.choices.Observe(record.n);
  if (t.first_token_ns == 0) return;
  m.first_token.Observe(Seconds(t.arrival_ns, t.first_token_ns));
  m.prefill.Observe(Seconds(t.first_scheduled_ns, t.first_token_ns));
  m.decode.Observe(Seconds(t.first_token_ns, t.last_token_ns));
  m.inference.Observe(Seconds(t.first_scheduled_ns, t.last_token_ns));
  if (record.first_choice_tokens > 1) {
    m.per_output_token.Observe(Seconds(t.first_token_ns, t.last_token_ns) /
                               (record.first_choice_tokens - 1));
  }
}

TokenTally::TokenTally() : gaps_(kInterToken.size() + 1) {}

void TokenTally::AddGap(double seconds) {
  const auto bucket = std::lower_bound(kInterToken.begin(), kInterToken.end(), seconds);
  ++gaps_[static_cast<size_t>(bucket - kInterToken.begin())];
  gaps_s_ += seconds;
}

void Metrics::Take(TokenTally* tally) {
  if (tally->tokens_ == 0) return;
  impl_->generated_total.Increment(static_cast<double>(std::exchange(tally->tokens_, 0)));
  impl_->inter_token.ObserveMultiple(tally->gaps_, std::exchange(tally->gaps_s_, 0));
  std::ranges::fill(tally->gaps_, 0);
}

void Metrics::Stage(const char* stage, double seconds) {
  auto found = impl_->stages.find(std::string_view(stage));
  if (found == impl_->stages.end()) found = impl_->stages.find("other");
  found->second->Observe(seconds);
}

void Metrics::Step(const engine::StepRecord& step) {
  impl_->step.Observe(step.num_tokens);
  if (step.schedule_ns > 0) Stage("schedule", Seconds(0, step.schedule_ns));
  if (step.forward_ns > 0) Stage("forward", Seconds(0, step.forward_ns));
  if (step.sample_ns > 0) Stage("sample", Seconds(0, step.sample_ns));
}

void Metrics::HttpRequest(const std::string& route, int status, double seconds) {
  constexpr size_t kMostRoutes = 64;
  std::string label = Printable(route);
  {
    std::lock_guard lock(impl_->mu);
    if (impl_->routes.count(label) == 0) {
      if (impl_->routes.size() < kMostRoutes) {
        impl_->routes.insert(label);
      } else {
        label = "other";
      }
    }
  }
  if (status < 100 || status > 599) status = 0;
  // Add returns the same counter for the same labels.
  impl_->http_requests.Add({{"handler", label}, {"status", std::to_string(status)}}).Increment();
  impl_->http_seconds.Add({{"handler", label}}, kRequest).Observe(seconds);
}

void Metrics::GrpcCall(const char* method, const std::string& code, double seconds) {
  impl_->grpc_requests.Add({{"method", method}, {"code", code}}).Increment();
  impl_->grpc_seconds.Add({{"method", method}}, kRequest).Observe(seconds);
}

void Metrics::Count(const char* name, const char* label_name, const char* label_value) {
  constexpr size_t kMostValues = 64;
  std::string value = Printable(label_value);
  {
    std::lock_guard lock(impl_->mu);
    std::set<std::string>& known = impl_->label_values[name];
    if (known.count(value) == 0) {
      if (known.size() < kMostValues) {
        known.insert(value);
      } else {
        value = "other";
      }
    }
  }
  try {
    Labels labels;
    if (*label_name != '\0') labels.emplace(label_name, value);
    impl_->NewCounters(name, "Events of this kind.").Add(labels).Increment();
  } catch (const std::exception& error) {
    // A name that Prometheus forbids: a bug of the caller's, and no reason to stop serving.
    Log(LogLevel::kError, "metric_refused", {{"name", name}, {"what", error.what()}});
  }
}

void Metrics::SetInfo(const std::string& name,
                      std::vector<std::pair<std::string, std::string>> labels) {
  ClientMetric metric;
  for (const auto& [key, value] : impl_->base) metric.label.push_back({key, value});
  for (auto& [key, value] : labels)
    metric.label.push_back({std::move(key), Printable(std::move(value))});
  metric.gauge.value = 1;
  MetricFamily family{
      "modu_" + name, "What is configured, in labels.", MetricType::Gauge, {std::move(metric)}};
  std::lock_guard lock(impl_->mu);
  for (MetricFamily& known : impl_->infos) {
    if (known.name != family.name) continue;
    known = std::move(family);
    return;
  }
  impl_->infos.push_back(std::move(family));
}

void Metrics::AddSource(const char* name, const char* help, bool is_counter,
                        std::function<double()> read) {
  std::lock_guard lock(impl_->mu);
  impl_->sources.push_back(
      {name, help, is_counter ? MetricType::Counter : MetricType::Gauge, std::move(read)});
}

void Metrics::SetStatsSource(std::function<engine::EngineStats()> source) {
  std::lock_guard lock(impl_->mu);
  impl_->stats = std::move(source);
}

void Metrics::Impl::Add(const char* name, const char* help, MetricType type, double value,
                        std::vector<MetricFamily>* out) const {
  ClientMetric metric;
  for (const auto& [key, text] : base) metric.label.push_back({key, text});
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  out->push_back(MetricFamily{std::string("modu_") + name, help, type, {std::move(metric)}});
}

void Metrics::Impl::AddEngine(std::vector<MetricFamily>* out) const {
  std::function<engine::EngineStats()> source;
  {
    std::lock_guard lock(mu);
    source = stats;
  }
  if (!source) return;
  const engine::EngineStats s = source();
  const auto gauge = [&](const char* name, const char* help, double value) {
    Add(name, help, MetricType::Gauge, value, out);
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    Add(name, help, MetricType::Counter, static_cast<double>(value), out);
  };
  gauge("num_requests_running", "Sequences that hold KV.", s.num_running);
  gauge("num_requests_waiting", "Sequences that wait for KV or a place in the batch.",
        s.num_waiting);
  const double total = static_cast<double>(std::max<int64_t>(s.blocks_total, 1));
  gauge("kv_cache_usage_perc", "Share of KV blocks that sequences hold; 1 is full.",
        static_cast<double>(s.blocks_held) / total);
  gauge("kv_blocks_total", "KV blocks.", static_cast<double>(s.blocks_total));
  gauge("kv_blocks_free", "KV blocks that hold nothing.", static_cast<double>(s.blocks_free));
  gauge("kv_blocks_cached", "KV blocks that only the prefix cache holds.",
        static_cast<double>(s.blocks_cached));
  gauge("kv_blocks_held", "KV blocks that sequences hold.", static_cast<double>(s.blocks_held));
  counter("engine_steps_total", "Steps of the engine.", s.num_steps);
  counter("mixed_steps_total", "Steps that carried prefill beside decodes.", s.mixed_steps);
  counter("mixed_steps_over_bound_total",
          "Those of them that took longer than --max-decode-slowdown allows.",
          s.mixed_steps_over_bound);
  counter("steps_cut_short_total",
          "Steps of a long prompt alone that ended early for a request that came.",
          s.steps_cut_short);
  counter("self_check_failures_total", "Idle recounts of KV blocks that did not balance: a bug.",
          s.self_check_failures);
  counter("num_preemptions_total", "Sequences put back to be computed again.", s.num_preemptions);
  counter(
      "prompt_tokens_total",
      "Prompt tokens of the sequences that began, n of them where a request asks for n choices; "
      "those found in the prefix cache are among them.",
      s.prompt_tokens);
  counter("prompt_tokens_cached_total", "Prompt tokens found in the prefix cache.",
          s.prompt_tokens_cached);
  counter("prompt_tokens_recomputed_total", "Tokens computed again after preemption.",
          s.prompt_tokens_recomputed);
  counter("prefix_cache_queries_total", "Tokens looked up in the prefix cache.",
          s.prefix_queries_tokens);
  counter("spec_decode_num_drafts_total", "Guesses at what comes next, each of some tokens.",
          s.num_drafts);
  counter("spec_decode_num_draft_tokens_total", "Guessed tokens.", s.draft_tokens);
  counter("spec_decode_num_accepted_tokens_total", "Guessed tokens that were drawn.",
          s.accepted_draft_tokens);
  counter("prefix_cache_hits_total", "Tokens found in the prefix cache.", s.prefix_hits_tokens);
  if (s.last_step_ns > 0) {
    // The engine's clock is monotonic; a timestamp wants the wall.
    const double age = Seconds(s.last_step_ns, clock->NowNs());
    const double now =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    gauge("engine_heartbeat_timestamp_seconds", "When the last step ended, since the epoch.",
          now - age);
  }
  if (s.step_started_ns > 0) {
    gauge("engine_step_age_seconds", "How long the step in flight has been running.",
          Seconds(s.step_started_ns, clock->NowNs()));
  } else {
    gauge("engine_step_age_seconds", "How long the step in flight has been running.", 0);
  }
}

std::string Metrics::Scrape() {
  // Ended first: a request that ends between the two reads counts as in flight, never as less than
  // none.
  const uint64_t ended = impl_->ended.load();
  const uint64_t received = impl_->received.load();
  std::vector<MetricFamily> families = impl_->registry.Collect();
  impl_->Add("requests_in_flight", "Received and not yet ended.", MetricType::Gauge,
             static_cast<double>(received - ended), &families);
  impl_->AddEngine(&families);
  impl_->Add("log_dropped_total", "Log lines lost to a full queue or a failed write.",
             MetricType::Counter, static_cast<double>(LogLinesDropped()), &families);
  {
    std::lock_guard lock(impl_->mu);
    families.insert(families.end(), impl_->infos.begin(), impl_->infos.end());
    for (const Impl::Source& source : impl_->sources) {
      impl_->Add(source.name, source.help, source.type, source.read(), &families);
    }
  }
  std::vector<MetricFamily> aliases;
  for (const MetricFamily& family : families) {
    const std::string_view name = std::string_view(family.name).substr(5);
    if (VllmNames().count(name) == 0) continue;
    aliases.push_back(family);
    aliases.back().name = "vllm:" + std::string(name);
  }
  for (const MetricFamily& family : families) {
    if (family.name != "modu_http_requests_total" &&
        family.name != "modu_http_request_duration_seconds")
      continue;
    aliases.push_back(family);  // the instrumentator's names have no prefix
    aliases.back().name = family.name.substr(5);
  }
  families.insert(families.end(), std::make_move_iterator(aliases.begin()),
                  std::make_move_iterator(aliases.end()));
  std::vector<MetricFamily> process = ProcessMetrics();
  families.insert(families.end(), std::make_move_iterator(process.begin()),
                  std::make_move_iterator(process.end()));
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace modu::telemetry
