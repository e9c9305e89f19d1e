// Runs planned requests against one endpoint, closed loop or at their arrival times, and keeps when
// each token came.
#pragma once
#include <string>
#include <vector>

#include "benchmarks/serving/cpu_usage.h"
#include "benchmarks/serving/host_stalls.h"
#include "benchmarks/serving/workload.h"
#include "clients/cpp/modu/stream_call.h"

namespace modu::benchmark {

/// Times in seconds since the run began.
struct RequestRecord {
  double sent_s = 0, ended_s = 0;
  std::vector<double> event_s;  // events that carried text or ids
  int prompt_tokens = 0,
      output_tokens = 0;  // from usage; events are counted where a server sends none
  int status = 0;
  std::string error;  // empty: the stream ended with [DONE] and without an error event
};

struct RunOptions {
  client::Endpoint endpoint;
  std::string target = "/v1/completions";
  std::string model;
  int concurrency = 1;  // closed loop; ignored with arrival times
  DrawOptions draw;
  pid_t server_pid = 0;
  bool watch_stalls = false;
  // Token ids are asked for, so that a token whose text waits for the rest of a character is an
  // event too, where the server knows `return_token_ids`.
  bool every_token = false;
  client::ReadPace pace;  // of every stream
};

struct RunResult {
  std::vector<RequestRecord> requests;
  double wall_s = 0;
  std::vector<Stall> stalls;  // merged; empty if they were not watched
  CpuSeconds cpu;             // spent during the run; rss: the largest of begin and end
};

RunResult RunLoad(const std::vector<PlannedRequest>& requests, bool poisson,
                  const RunOptions& options);

}  // namespace modu::benchmark
