#include "server/telemetry/metrics.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"

namespace modu::telemetry {
namespace {

struct Sample {
  std::string name, labels;
  double value;
};

// The exposition format 0.0.4, read by its rules: HELP and TYPE before samples, one TYPE a family,
// names of the alphabet, label values quoted with the three escapes, no sample twice.
std::vector<Sample> Parse(const std::string& text, std::map<std::string, std::string>* types) {
  REQUIRE((!text.empty() && text.back() == '\n'));
  std::vector<Sample> samples;
  std::set<std::string> seen;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# TYPE ", 0) == 0) {
      std::istringstream words(line.substr(7));
      std::string name, type;
      words >> name >> type;
      CHECK(types->emplace(name, type).second);
      continue;
    }
    if (line.rfind("# HELP ", 0) == 0) continue;
    INFO(line);
    size_t at = 0;
    while (at < line.size() && (std::isalnum(static_cast<unsigned char>(line[at])) ||
                                line[at] == '_' || line[at] == ':')) {
      ++at;
    }
    Sample sample;
    sample.name = line.substr(0, at);
    REQUIRE(at > 0);
    const size_t start = at;
    if (line[at] == '{') {
      bool quoted = false;
      for (++at; at < line.size() && (quoted || line[at] != '}'); ++at) {
        if (quoted && line[at] == '\\') {
          ++at;
          REQUIRE((line[at] == 'n' || line[at] == '"' || line[at] == '\\'));
        } else if (line[at] == '"') {
          quoted = !quoted;
        }
      }
      REQUIRE((at < line.size() && line[at] == '}'));
      ++at;
    }
    sample.labels = line.substr(start, at - start);
    REQUIRE(line[at] == ' ');
    char* end = nullptr;
    sample.value = std::strtod(line.c_str() + at + 1, &end);
    CHECK(*end == '\0');
    CHECK(seen.insert(sample.name + sample.labels).second);
    std::string family = sample.name;
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      const size_t cut = family.rfind(suffix);
      if (cut != std::string::npos && cut + std::string(suffix).size() == family.size() &&
          types->count(family.substr(0, cut)) > 0) {
        family = family.substr(0, cut);
        break;
      }
    }
    CHECK(types->count(family) == 1);
    samples.push_back(std::move(sample));
  }
  return samples;
}

double Value(const std::vector<Sample>& samples, const std::string& name,
             const std::string& label = "") {
  for (const Sample& sample : samples) {
    if (sample.name == name && sample.labels.find(label) != std::string::npos) return sample.value;
  }
  return std::nan("");
}

CallRecord Done() {
  CallRecord record;
  record.outcome = "done";
  record.finish_reason = "stop";
  record.prompt_tokens = 30;
  record.cached_tokens = 10;
  record.generation_tokens = 5;
  record.first_choice_tokens = record.longest_choice_tokens = 5;
  record.max_tokens = 100;
  record.times = {1'000'000'000, 1'002'000'000, 1'010'000'000, 1'050'000'000, 1'051'000'000};
  return record;
}

TEST_CASE("every vLLM name is there under both prefixes, with model and engine") {
  Metrics metrics("tiny");
  metrics.SetStatsSource([] {
    engine::EngineStats stats;
    stats.num_running = 3;
    stats.num_waiting = 2;
    stats.blocks_total = 100;
    stats.blocks_held = 25;
    stats.prompt_tokens = 7;
    stats.last_step_ns = engine::SteadyClock().NowNs();
    return stats;
  });
  metrics.SetInfo("cache_config_info", {{"block_size", "32"}, {"odd", "a\"b\\c\nd"}});
  metrics.CallReceived();
  metrics.CallEnded(Done());
  TokenTally tally;
  tally.AddGap(0.003);
  tally.AddToken();
  metrics.Take(&tally);
  metrics.Step({12, 0, 2'000'000, 0});
  metrics.HttpRequest("/v1/models", 200, 0.001);
  std::map<std::string, std::string> types;
  const auto samples = Parse(metrics.Scrape(), &types);
  for (const char* name : {"num_requests_running",
                           "num_requests_waiting",
                           "kv_cache_usage_perc",
                           "prompt_tokens_total",
                           "generation_tokens_total",
                           "prefix_cache_queries_total",
                           "prefix_cache_hits_total",
                           "num_preemptions_total",
                           "request_success_total",
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
                           "request_params_n",
                           "request_prefill_kv_computed_tokens",
                           "iteration_tokens_total",
                           "spec_decode_num_drafts_total",
                           "spec_decode_num_draft_tokens_total",
                           "spec_decode_num_accepted_tokens_total",
                           "cache_config_info",
                           "prompt_tokens_cached_total",
                           "prompt_tokens_recomputed_total"}) {
    INFO(name);
    CHECK(types.count(std::string("modu_") + name) == 1);
    CHECK(types["vllm:" + std::string(name)] == types["modu_" + std::string(name)]);
  }
  CHECK(types.count("modu_mixed_steps_over_bound_total") == 1);
  CHECK(types.count("modu_steps_cut_short_total") == 1);
  CHECK(Value(samples, "vllm:num_requests_running", "model_name=\"tiny\"") == 3);
  CHECK(Value(samples, "vllm:num_requests_running", "engine=\"0\"") == 3);
  CHECK(Value(samples, "modu_kv_cache_usage_perc") == Approx(0.25));
  CHECK(Value(samples, "modu_request_success_total", "finished_reason=\"stop\"") == 1);
  CHECK(Value(samples, "modu_time_to_first_token_seconds_sum") == Approx(0.010));
  CHECK(Value(samples, "modu_request_queue_time_seconds_sum") == Approx(0.002));
  CHECK(Value(samples, "modu_request_time_per_output_token_seconds_sum") == Approx(0.010));
  CHECK(Value(samples, "modu_e2e_request_latency_seconds_sum") == Approx(0.051));
  CHECK(Value(samples, "modu_request_prefill_kv_computed_tokens_sum") == 20);
  CHECK(Value(samples, "modu_inter_token_latency_seconds_bucket", "le=\"0.002\"") == 0);
  CHECK(Value(samples, "modu_inter_token_latency_seconds_bucket", "le=\"0.004\"") == 1);
  CHECK(Value(samples, "http_requests_total", "handler=\"/v1/models\"") == 1);
  CHECK(std::fabs(Value(samples, "modu_engine_heartbeat_timestamp_seconds") -
                  static_cast<double>(time(nullptr))) < 5);
  for (const char* name :
       {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total",
        "process_start_time_seconds", "process_threads", "process_max_fds"}) {
    INFO(name);
    CHECK(Value(samples, name) >= 0);
  }
}

TEST_CASE("received = ended by any outcome + in flight, also under many threads") {
  Metrics metrics("m");
  const std::vector<std::string> outcomes = {"done", "cancelled", "failed", "expired", "rejected"};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) {
        metrics.CallReceived();
        if (i % 10 == 9) continue;  // stays in flight
        CallRecord record = Done();
        record.outcome = outcomes[(i + t) % outcomes.size()];
        metrics.CallEnded(record);
        if (i % 250 == 0) metrics.Scrape();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, std::string> types;
  const auto samples = Parse(metrics.Scrape(), &types);
  double ended = 0;
  for (const std::string& outcome : outcomes) {
    ended += Value(samples, "modu_requests_ended_total", "outcome=\"" + outcome + "\"");
  }
  CHECK(Value(samples, "modu_requests_received_total") == 4000);
  CHECK(ended == 3600);
  CHECK(Value(samples, "modu_requests_in_flight") == 400);
}

TEST_CASE("what a client chooses never grows the label sets or forges a line") {
  Metrics metrics("bad\nname\"\x1b[31m");
  for (int i = 0; i < 1000; ++i) {
    metrics.HttpRequest("/x" + std::to_string(i) + "\n# TYPE forged counter", 200 + i, 0.001);
    metrics.Count("odd_total", "what", ("v" + std::to_string(i)).c_str());
    CallRecord record;
    record.outcome = "rejected";
    record.failure = "reason" + std::to_string(i);
    metrics.CallReceived();
    metrics.CallEnded(record);
  }
  std::map<std::string, std::string> types;
  const auto samples = Parse(metrics.Scrape(), &types);
  CHECK(types.count("forged") == 0);
  int odd = 0;
  std::set<std::string> handlers;
  for (const Sample& sample : samples) {
    odd += sample.name == "modu_odd_total";
    if (sample.name == "modu_http_request_duration_seconds_count") handlers.insert(sample.labels);
  }
  CHECK(odd <= 65);
  CHECK(handlers.size() <= 65);
  CHECK(Value(samples, "modu_requests_failed_total", "reason=\"other\"") == 1000);
}

TEST_CASE("the stages of a step, and what other rooms count, are there") {
  Metrics metrics("tiny");
  metrics.Step({40, 2'000, 3'000'000, 50'000});
  metrics.Step({2, 2'000, 0, 0});  // a runner that does not measure
  metrics.GrpcCall("/modu.v1.Modu/Chat", "NOT_FOUND", 0.25);
  metrics.Stage("write", 0.5);
  metrics.AddSource("door_total", "Counted elsewhere.", true, [] { return 7.0; });
  std::map<std::string, std::string> types;
  const auto samples = Parse(metrics.Scrape(), &types);
  CHECK(Value(samples, "modu_iteration_tokens_total_sum") == 42);
  CHECK(Value(samples, "modu_grpc_requests_total", "code=\"NOT_FOUND\"") == 1);
  CHECK(Value(samples, "modu_grpc_request_duration_seconds_sum", "Modu/Chat") == Approx(0.25));
  CHECK(Value(samples, "modu_stage_seconds_count", "stage=\"schedule\"") == 2);
  CHECK(Value(samples, "modu_stage_seconds_count", "stage=\"forward\"") == 1);
  CHECK(Value(samples, "modu_stage_seconds_sum", "stage=\"forward\"") == Approx(0.003));
  CHECK(Value(samples, "modu_stage_seconds_count", "stage=\"sample\"") == 1);
  CHECK(Value(samples, "modu_stage_seconds_sum", "stage=\"write\"") == Approx(0.5));
  CHECK(Value(samples, "modu_door_total") == 7);
  CHECK(types["modu_door_total"] == "counter");
  CHECK(Value(samples, "modu_log_dropped_total") >= 0);
}

TEST_CASE("live bytes follow what is allocated") {
  Metrics metrics("tiny");
  const auto live = [&] {
    std::map<std::string, std::string> types;
    return Value(Parse(metrics.Scrape(), &types), "modu_process_live_bytes");
  };
  const double before = live();
  if (!(before > 0)) return;  // a sanitizer's allocator does not say
  const std::string held(10 << 20, 'x');
  const double during = live();
  CHECK(during - before > 10 << 20);
  CHECK(during - before < 12 << 20);
  CHECK(held.size() == 10 << 20);
}

}  // namespace
}  // namespace modu::telemetry
