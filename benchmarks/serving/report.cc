#include "benchmarks/serving/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "nlohmann/json.hpp"

namespace modu::benchmark {
namespace {

nlohmann::json PercentilesJson(const Percentiles& p) {
  return {{"p50", p.p50}, {"p99", p.p99}, {"p99.9", p.p999}, {"max", p.maximum}};
}

/// Tokens per second while every stream decodes: between the latest first token of the first wave
/// and the time when the first request of the last wave ended. 0 where there is no such span.
double SteadyRate(int concurrency, const std::vector<RequestRecord>& requests) {
  if (requests.empty()) return 0;
  std::vector<const RequestRecord*> by_send;
  for (const RequestRecord& request : requests) by_send.push_back(&request);
  std::sort(by_send.begin(), by_send.end(), [](auto* a, auto* b) { return a->sent_s < b->sent_s; });
  const size_t wave = std::min<size_t>(std::max(concurrency, 1), by_send.size());
  double begin = 0, end = 1e300;
  for (size_t i = 0; i < wave; ++i) {
    if (by_send[i]->event_s.empty()) return 0;
    begin = std::max(begin, by_send[i]->event_s.front());
  }
  // A worker is out of work when it ends after the last request was sent.
  for (const RequestRecord& request : requests) {
    if (request.ended_s >= by_send.back()->sent_s) end = std::min(end, request.ended_s);
  }
  if (end <= begin) return 0;
  double tokens = 0;
  for (const RequestRecord& request : requests) {
    if (request.event_s.empty()) continue;
    const double per_event =
        static_cast<double>(request.output_tokens) / static_cast<double>(request.event_s.size());
    for (const double at : request.event_s) tokens += at > begin && at <= end ? per_event : 0;
  }
  return tokens / (end - begin);
}

}  // namespace

Percentiles PercentilesOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto rank = [&](double share) {
    const size_t index = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values[std::min(values.size() - 1, index == 0 ? 0 : index - 1)];
  };
  return {rank(0.5), rank(0.99), rank(0.999), values.back()};
}

RunSummary Summarize(const std::string& label, int concurrency, const RunResult& result) {
  RunSummary summary;
  summary.label = label;
  summary.concurrency = concurrency;
  summary.num_requests = static_cast<int>(result.requests.size());
  summary.wall_s = result.wall_s;
  std::vector<double> ttft, tpot, gaps, gaps_less_stalls;
  for (const RequestRecord& request : result.requests) {
    if (!request.error.empty() || request.status != 200) ++summary.num_failed;
    summary.prompt_tokens += request.prompt_tokens;
    summary.output_tokens += request.output_tokens;
    summary.num_events += static_cast<int64_t>(request.event_s.size());
    if (request.event_s.empty()) continue;
    ttft.push_back(1e3 * (request.event_s.front() - request.sent_s));
    if (request.output_tokens > 1) {
      tpot.push_back(1e3 * (request.event_s.back() - request.event_s.front()) /
                     (request.output_tokens - 1));
    }
    for (size_t i = 1; i < request.event_s.size(); ++i) {
      const double begin_s = request.event_s[i - 1], end_s = request.event_s[i];
      gaps.push_back(1e3 * (end_s - begin_s));
      gaps_less_stalls.push_back(gaps.back() - 1e3 * StalledWithin(result.stalls, begin_s, end_s));
    }
  }
  summary.ttft_ms = PercentilesOf(std::move(ttft));
  summary.tpot_ms = PercentilesOf(std::move(tpot));
  summary.itl_ms = PercentilesOf(std::move(gaps));
  summary.itl_less_stalls_ms = PercentilesOf(std::move(gaps_less_stalls));
  summary.stalled_s = StalledWithin(result.stalls, 0, result.wall_s);
  if (result.wall_s > 0) {
    summary.output_tokens_per_s = static_cast<double>(summary.output_tokens) / result.wall_s;
    summary.client_cores = result.cpu.client / result.wall_s;
    summary.server_cores = result.cpu.server / result.wall_s;
    summary.other_cores =
        std::max(0.0, result.cpu.machine - result.cpu.client - result.cpu.server) / result.wall_s;
  }
  summary.steady_tokens_per_s = SteadyRate(concurrency, result.requests);
  summary.server_rss_mib = result.cpu.server_rss_mib;
  return summary;
}

nlohmann::json ToJson(const RunSummary& s) {
  return {{"label", s.label},
          {"concurrency", s.concurrency},
          {"requests", s.num_requests},
          {"failed", s.num_failed},
          {"prompt_tokens", s.prompt_tokens},
          {"output_tokens", s.output_tokens},
          {"events", s.num_events},
          {"wall_s", s.wall_s},
          {"output_tokens_per_s", s.output_tokens_per_s},
          {"steady_tokens_per_s", s.steady_tokens_per_s},
          {"ttft_ms", PercentilesJson(s.ttft_ms)},
          {"tpot_ms", PercentilesJson(s.tpot_ms)},
          {"itl_ms", PercentilesJson(s.itl_ms)},
          {"itl_less_stalls_ms", PercentilesJson(s.itl_less_stalls_ms)},
          {"stalled_s", s.stalled_s},
          {"client_cores", s.client_cores},
          {"server_cores", s.server_cores},
          {"other_cores", s.other_cores},
          {"server_rss_mib", s.server_rss_mib}};
}

std::string TableHeader() {
  return "| server | streams | requests (failed) | tok/s whole run | tok/s steady | TTFT p50 / p99 "
         "ms | TPOT p50 ms | "
         "ITL p50 / p99 / longest ms | CPU client / server / other (cores) | RSS MiB |\n"
         "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
}

std::string TableRow(const RunSummary& s) {
  char row[512];
  std::snprintf(row, sizeof(row),
                "| %s | %d | %d (%d) | %.1f | %.1f | %.0f / %.0f | %.1f | %.1f / %.1f / %.0f | "
                "%.2f / %.2f / %.2f | %.0f |\n",
                s.label.c_str(), s.concurrency, s.num_requests, s.num_failed, s.output_tokens_per_s,
                s.steady_tokens_per_s, s.ttft_ms.p50, s.ttft_ms.p99, s.tpot_ms.p50, s.itl_ms.p50,
                s.itl_ms.p99, s.itl_ms.maximum, s.client_cores, s.server_cores, s.other_cores,
                s.server_rss_mib);
  return row;
}

}  // namespace modu::benchmark
