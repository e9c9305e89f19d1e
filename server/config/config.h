// One Config: command line over YAML file over defaults, each value with where it came from.
// Everything is checked before anything listens; an unknown key or a value out of range is an error
// that names it and its bounds.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "server/api/limits.h"

namespace modu::config {

struct Config {
  std::string model;  // path, catalogue name, URL or org/name; "": the default model
  std::vector<std::string> served_model_names;
  std::string host = "127.0.0.1";
  int port = 8000, grpc_port = 8001, admin_port = 8002;
  std::string admin_host = "127.0.0.1";
  bool public_metrics = false;
  int threads = 0;                // 0: the CPU set and the cgroup's quota
  int text_threads = 0;           // 0: one for every 8 cores
  int ctx = 0;                    // 0: the model's, at most what KV holds
  int64_t kv_tokens = 0;          // 0: by memory
  std::string kv_dtype = "auto";  // auto, f32, bf16, int8, fp8
  int max_seqs = 64;
  int max_step_tokens = 0;  // 0: a default, at least max_seqs
  int draft_tokens = 4;
  int max_decode_slowdown = -1;   // percent, 100 or more; 0: no bound; -1: by the numerics
  std::string numerics = "auto";  // auto, exact, bf16, int8, phased
  std::string isa;                // "", ref, avx2, avx512, avx512bf16, amx
  bool prefix_cache = true;
  bool check = false;  // every weight is finite, before anything listens
  int drain_s = 30;
  int watchdog_soft_s = 10, watchdog_hard_s = 60;
  std::string api_key_file, tls_cert, tls_key;
  std::vector<std::string> cors_origins;
  std::string log_format = "text", log_level = "info";
  api::Limits limits;

  struct Setting {
    std::string name, value, source;  // source: default, file, flag
  };
  std::vector<Setting> settings;  // in the order of --help, for printing at start
};

}  // namespace modu::config
