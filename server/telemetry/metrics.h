// Prometheus metrics: vLLM's names under `modu_` and, as an alias, `vllm:`. Counters and histograms
// are fed by the one terminal move of a call; gauges are computed from real state at scrape time.
// Thread-safe.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/clock.h"
#include "engine/engine.h"

namespace modu::telemetry {

/// What is known of a call when it ends.
struct CallRecord {
  std::string outcome;        // done, cancelled, failed, expired, rejected
  std::string finish_reason;  // stop, length, abort, error, timeout, or "" when rejected
  std::string failure;        // reason label of requests_failed_total, or ""
  int32_t prompt_tokens = 0, generation_tokens = 0, cached_tokens = 0, n = 1, max_tokens = 0;
  int32_t first_choice_tokens = 0, longest_choice_tokens = 0;  // generated
  engine::RequestTimes times;  // of the first choice; finished of the last
};

/// The tokens of one turn of a text thread and the gaps before them, told to the metrics at once: a
/// histogram takes a lock a sample. One thread at a time.
class TokenTally {
 public:
  TokenTally();
  void AddToken() { ++tokens_; }  // one that a client gets, or whose text is part of what it gets
  void AddGap(double seconds);    // between two tokens of a choice

 private:
  friend class Metrics;
  int64_t tokens_ = 0;
  std::vector<double> gaps_;  // by bucket
  double gaps_s_ = 0;         // their sum
};

class Metrics {
 public:
  /// `clock` is the engine's (null: the steady clock); it dates the heartbeat.
  explicit Metrics(std::string model_name, const engine::Clock* clock = nullptr);
  ~Metrics();

  void CallReceived();
  void CallEnded(const CallRecord& record);
  /// Counts what is in `tally` and empties it.
  void Take(TokenTally* tally);
  void Stage(const char* stage,
             double seconds);  // render, tokenize, schedule, forward, sample, detokenize, write
  /// One engine step: its tokens, and its schedule, forward and sample stages; what was not
  /// measured (0) is left out.
  void Step(const engine::StepRecord& step);
  void HttpRequest(const std::string& route, int status, double seconds);
  void GrpcCall(const char* method, const std::string& code, double seconds);
  /// Counter of our own, without prefix; label_name may be "". Past 64 label values the rest is
  /// counted as "other".
  void Count(const char* name, const char* label_name, const char* label_value);
  /// A gauge that is always 1 and says something in its labels: cache_config_info, build_info.
  void SetInfo(const std::string& name, std::vector<std::pair<std::string, std::string>> labels);

  /// A gauge or counter of the rest of the server's, without prefix, read at scrape time. `read`
  /// must stay callable for as long as anything scrapes.
  void AddSource(const char* name, const char* help, bool is_counter, std::function<double()> read);
  /// Engine gauges are read through this at scrape time.
  void SetStatsSource(std::function<engine::EngineStats()> source);

  /// Text exposition format 0.0.4.
  std::string Scrape();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::telemetry
