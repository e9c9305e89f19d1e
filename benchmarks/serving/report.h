// Figures of one run, as JSON and as a table row. Latencies in milliseconds; percentiles by the
// nearest rank.
#pragma once
#include <string>
#include <vector>

#include "benchmarks/serving/load_run.h"
#include "nlohmann/json_fwd.hpp"

namespace modu::benchmark {

struct Percentiles {
  double p50 = 0, p99 = 0, p999 = 0, maximum = 0;
};
Percentiles PercentilesOf(std::vector<double> values);

struct RunSummary {
  std::string label;
  int concurrency = 0, num_requests = 0, num_failed = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;
  int64_t num_events = 0;  // that carried tokens
  double wall_s = 0;
  double output_tokens_per_s = 0;  // whole run
  double steady_tokens_per_s =
      0;                // from every stream's first token until the first worker runs out of work
  Percentiles ttft_ms;  // send to first token
  Percentiles tpot_ms;  // (last - first token) / (tokens - 1), per request
  Percentiles itl_ms;   // gaps between events, pooled over requests; maximum: the longest gap
  Percentiles itl_less_stalls_ms;  // the same without what the host took, where that was watched
  double stalled_s = 0;
  double client_cores = 0, server_cores = 0, other_cores = 0;
  double server_rss_mib = 0;
};

RunSummary Summarize(const std::string& label, int concurrency, const RunResult& result);
nlohmann::json ToJson(const RunSummary& summary);
std::string TableHeader();
std::string TableRow(const RunSummary& summary);

}  // namespace modu::benchmark
