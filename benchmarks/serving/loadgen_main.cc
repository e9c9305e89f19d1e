// modu-loadgen: drives any OpenAI-style endpoint and prints latency and throughput.
//   modu-loadgen --port 8000 --streams 1,16,64 --prompt-tokens 128 --output-tokens 128 --json
//   out.json
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "benchmarks/serving/load_run.h"
#include "benchmarks/serving/report.h"
#include "nlohmann/json.hpp"

namespace modu::benchmark {
namespace {

constexpr char kHelp[] =
    "usage: modu-loadgen [flags]\n"
    "  --host H --port P        endpoint [127.0.0.1 8000], plain HTTP\n"
    "  --target PATH            [/v1/completions]\n"
    "  --model NAME             sent as is; left out by default\n"
    "  --api-key KEY            \n"
    "  --label NAME             first column of the table [the port]\n"
    "  --streams N[,N...]       closed loops, one run each [1]\n"
    "  --rate R                 Poisson arrivals a second instead of a closed loop\n"
    "  --requests N             per run [10 at 1 stream, else 3 waves up to 16, 2 above]\n"
    "  --prompt-tokens N|A-B    fixed or uniform [128]\n"
    "  --output-tokens N|A-B    [128]\n"
    "  --shared-prefix N        tokens that all prompts begin with [0]\n"
    "  --token-ids A-B          range of random prompt ids [1000-40000]\n"
    "  --temperature T          [0: greedy]\n"
    "  --top-p P --min-p P --top-k N  sent where they are not 0 [0]\n"
    "  --warmup N               requests before the first run [2]\n"
    "  --seed N                 [1]\n"
    "  --stalls 0|1             watch the host's stalls; gaps without them go to the JSON [0]\n"
    "  --every-token 0|1        ask for token ids: an event also for tokens without text of their "
    "own [0]\n"
    "  --read-pause-ms N        readers that lag: before each read, of at most 16 KiB [0]\n"
    "  --receive-buffer N       bytes, in the kernel [the system's]\n"
    "  --json FILE              all figures\n";

using Flags = std::map<std::string, std::string>;

bool ReadFlags(int argc, char** argv, Flags& flags) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (flags.find(name) == flags.end()) {
      std::fprintf(stderr, "modu-loadgen: unknown flag %s\n%s", argv[i], kHelp);
      return false;
    }
    flags[name] = argv[i + 1];
  }
  if (argc % 2 == 0) {
    std::fputs(kHelp, stderr);
    return false;
  }
  return true;
}

LengthRange ReadRange(const std::string& text) {
  const size_t dash = text.find('-');
  const int minimum = std::atoi(text.c_str());
  return {minimum, dash == std::string::npos ? minimum : std::atoi(text.c_str() + dash + 1)};
}

int DefaultRequests(int streams) {
  return streams == 1 ? 10 : streams <= 16 ? 3 * streams : 2 * streams;
}

int Main(int argc, char** argv) {
  Flags flags = {{"--host", "127.0.0.1"},
                 {"--port", "8000"},
                 {"--target", "/v1/completions"},
                 {"--model", ""},
                 {"--api-key", ""},
                 {"--label", ""},
                 {"--streams", "1"},
                 {"--rate", "0"},
                 {"--requests", "0"},
                 {"--prompt-tokens", "128"},
                 {"--output-tokens", "128"},
                 {"--shared-prefix", "0"},
                 {"--token-ids", "1000-40000"},
                 {"--temperature", "0"},
                 {"--top-p", "0"},
                 {"--min-p", "0"},
                 {"--top-k", "0"},
                 {"--warmup", "2"},
                 {"--seed", "1"},
                 {"--stalls", "0"},
                 {"--every-token", "0"},
                 {"--read-pause-ms", "0"},
                 {"--receive-buffer", "0"},
                 {"--json", ""}};
  if (!ReadFlags(argc, argv, flags)) return 2;

  RunOptions run;
  run.endpoint = {flags["--host"], flags["--port"], flags["--api-key"]};
  run.target = flags["--target"];
  run.model = flags["--model"];
  run.server_pid = FindListener(std::atoi(flags["--port"].c_str()));
  run.draw = {std::atof(flags["--temperature"].c_str()), std::atof(flags["--top-p"].c_str()),
              std::atof(flags["--min-p"].c_str()), std::atoi(flags["--top-k"].c_str())};
  run.watch_stalls = flags["--stalls"] == "1";
  run.every_token = flags["--every-token"] == "1";
  run.pace = {std::atoi(flags["--receive-buffer"].c_str()),
              std::chrono::milliseconds(std::atoi(flags["--read-pause-ms"].c_str()))};
  const std::string label = flags["--label"].empty() ? "port " + flags["--port"] : flags["--label"];

  WorkloadOptions workload;
  workload.prompt_tokens = ReadRange(flags["--prompt-tokens"]);
  workload.output_tokens = ReadRange(flags["--output-tokens"]);
  workload.shared_prefix_tokens = std::atoi(flags["--shared-prefix"].c_str());
  const LengthRange ids = ReadRange(flags["--token-ids"]);
  workload.min_token_id = ids.minimum;
  workload.max_token_id = ids.maximum;
  workload.rate_per_s = std::atof(flags["--rate"].c_str());
  workload.seed = std::strtoull(flags["--seed"].c_str(), nullptr, 10);

  if (const int warmup = std::atoi(flags["--warmup"].c_str()); warmup > 0) {
    WorkloadOptions warm = workload;
    warm.num_requests = warmup;
    warm.rate_per_s = 0;
    warm.seed = workload.seed + 1'000'003;
    RunLoad(PlanRequests(warm), false, run);
  }

  nlohmann::json all = nlohmann::json::array();
  std::fputs(TableHeader().c_str(), stdout);
  int num_failed = 0;
  std::istringstream streams(flags["--streams"]);
  for (std::string item; std::getline(streams, item, ',');) {
    run.concurrency = std::max(1, std::atoi(item.c_str()));
    const int asked = std::atoi(flags["--requests"].c_str());
    workload.num_requests = asked > 0 ? asked : DefaultRequests(run.concurrency);
    workload.seed += 7919;  // no run finds the prompts of the one before in a prefix cache
    const RunResult result = RunLoad(PlanRequests(workload), workload.rate_per_s > 0, run);
    const RunSummary summary = Summarize(label, run.concurrency, result);
    num_failed += summary.num_failed;
    for (const RequestRecord& request : result.requests) {
      if (!request.error.empty()) {
        std::fprintf(stderr, "failed (status %d): %.300s\n", request.status, request.error.c_str());
        break;
      }
    }
    std::fputs(TableRow(summary).c_str(), stdout);
    std::fflush(stdout);
    all.push_back(ToJson(summary));
  }
  if (!flags["--json"].empty()) std::ofstream(flags["--json"]) << all.dump(2) << "\n";
  return num_failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace modu::benchmark

int main(int argc, char** argv) { return modu::benchmark::Main(argc, argv); }
