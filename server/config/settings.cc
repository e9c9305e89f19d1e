#include "server/config/settings.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace modu::config {
namespace {

constexpr int64_t kInt32Max = 2147483647;

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

absl::Status OutOfRange(const SettingRow& row, const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat(row.name, ": ", text, " is not in ", row.minimum, "..", row.maximum));
}

absl::StatusOr<int64_t> ParseInteger(const SettingRow& row, const std::string& text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) return OutOfRange(row, text);
  if (error != std::errc() || stop != end || text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(row.name, ": \"", text, "\" is not a whole number"));
  }
  if (value < row.minimum || value > row.maximum) return OutOfRange(row, text);
  return value;
}

absl::Status AssignBool(const SettingRow& row, const std::string& text, bool& out) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") {
    out = true;
  } else if (text == "false" || text == "0" || text == "no" || text == "off") {
    out = false;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(row.name, ": \"", text, "\" is neither true nor false"));
  }
  return absl::OkStatus();
}

absl::Status AssignString(const SettingRow& row, const std::string& text, std::string& out) {
  if (!row.choices.empty() &&
      std::find(row.choices.begin(), row.choices.end(), text) == row.choices.end()) {
    std::vector<std::string> words = row.choices;
    std::erase(words, "");  // where it is a choice it stands for the default, which has no word
    return absl::InvalidArgumentError(
        absl::StrCat(row.name, ": \"", text, "\" is not one of ", absl::StrJoin(words, ", ")));
  }
  out = text;
  return absl::OkStatus();
}

template <class Number>
absl::Status AssignNumber(const SettingRow& row, const std::string& text, Number& out) {
  const absl::StatusOr<int64_t> value = ParseInteger(row, text);
  if (!value.ok()) return value.status();
  out = static_cast<Number>(row.seconds_to_ms ? *value * 1000 : *value);
  return absl::OkStatus();
}

template <class Number>
std::string ShowNumber(const SettingRow& row, Number value) {
  return absl::StrCat(row.seconds_to_ms ? value / 1000 : value);
}

}  // namespace

std::span<const SettingRow> Settings() {
  using L = api::Limits;
  static const std::vector<SettingRow> rows = {
      {"served-model-name", "Model",
       "name(s) that requests may use, comma separated; default: the model's own",
       &Config::served_model_names},
      {"ctx", "Model", "longest prompt and output together; 0: the model's own", &Config::ctx, 0,
       1 << 24},
      {"numerics",
       "Model",
       "exact (float32), bf16, int8 (activations in groups of 32), phased (bf16 for prompts, int8 "
       "for what is generated; quantised weights are kept twice), or auto: int8; with AMX phased, "
       "bf16 where the weights are not quantised or large",
       &Config::numerics,
       0,
       0,
       {"auto", "exact", "bf16", "int8", "phased"}},

      {"host", "Doors", "address of the REST and gRPC ports", &Config::host},
      {"port", "Doors", "REST port", &Config::port, 0, 65535},
      {"grpc-port", "Doors", "gRPC port; -1: no gRPC", &Config::grpc_port, -1, 65535},
      {"admin-host", "Doors", "address of the admin port", &Config::admin_host},
      {"admin-port", "Doors", "metrics and admin port; -1: none", &Config::admin_port, -1, 65535},
      {"public-metrics", "Doors", "serve /metrics on the REST port too", &Config::public_metrics},
      {"cors-origins", "Doors", "origins that browsers may call from, comma separated; *: any",
       &Config::cors_origins},
      {"api-key-file", "Doors",
       "file of API keys, one a line (or sha256:HEX); without it everything is open",
       &Config::api_key_file},
      {"tls-cert", "Doors", "PEM certificate chain; REST and gRPC then speak TLS",
       &Config::tls_cert},
      {"tls-key", "Doors", "PEM private key of --tls-cert", &Config::tls_key},

      {"threads", "Engine", "compute threads; 0: the CPU set and the cgroup's quota",
       &Config::threads, 0, 1024},
      {"text-threads", "Engine",
       "threads that render and tokenize prompts; 0: one for every 8 cores", &Config::text_threads,
       0, 256},
      {"isa",
       "Engine",
       "instruction set: ref, avx2, avx512, avx512bf16 or amx; default: the best the machine has",
       &Config::isa,
       0,
       0,
       {"", "ref", "avx2", "avx512", "avx512bf16", "amx"}},
      {"max-seqs", "Engine", "sequences in a batch", &Config::max_seqs, 1, 4096},
      {"max-step-tokens", "Engine",
       "tokens of one step, decodes first; 0: 512, or 1536 where tiles multiply prompts (AMX), or "
       "max-seqs if that is more",
       &Config::max_step_tokens, 0, 65536},
      {"max-decode-slowdown", "Engine",
       "percent, 100 or more: how long prefill may make a step, of one of those who decode and "
       "will soon; -1: 230, or 200 where prompts have weights of their own (phased); 0: no bound",
       &Config::max_decode_slowdown, -1, 100'000},
      {"draft-tokens", "Engine",
       "tokens guessed from a sequence's own text and checked in one step, where at most four run "
       "(7 "
       "for one, 3 for two, 1 for four); the answers are the same; 0: none",
       &Config::draft_tokens, 0, 7},
      {"kv-tokens", "Engine",
       "tokens the KV cache holds; 0: enough for max-seqs, at most a quarter of the memory",
       &Config::kv_tokens, 0, int64_t{1} << 32},
      {"kv-dtype",
       "Engine",
       "auto: float32 with --numerics exact, int8 with int8 and phased, else bf16; int8 and fp8 "
       "are codes with a scale for each token and head, in about half of bf16's memory",
       &Config::kv_dtype,
       0,
       0,
       {"auto", "f32", "bf16", "int8", "fp8"}},
      {"prefix-cache", "Engine", "reuse the KV of equal prefixes", &Config::prefix_cache},

      {"max-queued", "Limits", "requests that may wait for the engine", &L::max_queued_requests, 1,
       1 << 20},
      {"max-queued-tokens", "Limits", "prompt tokens that may wait; 0: four times the KV cache",
       &L::max_queued_tokens, 0, int64_t{1} << 40},
      {"queue-deadline",
       "Limits",
       "seconds a request may wait; then 503",
       &L::queue_deadline_ms,
       1,
       86'400,
       {},
       true},
      {"request-deadline",
       "Limits",
       "seconds a request may take in all",
       &L::request_deadline_ms,
       1,
       86'400,
       {},
       true},
      {"max-output-tokens", "Limits", "cap on any request's output; 0: what the context leaves",
       &L::max_output_tokens, 0, 1 << 24},
      {"max-n", "Limits", "choices of one request", &L::max_n, 1, 1024},
      {"max-logprobs", "Limits", "top_logprobs of one request", &L::max_top_logprobs, 0, 100},
      {"max-body-bytes", "Limits", "bytes of a request body", &L::max_body_bytes, 1024,
       int64_t{1} << 30},
      {"max-chunks", "Limits", "chunks of a chunked request body", &L::max_chunks, 1, 1 << 24},
      {"max-grpc-streams", "Limits", "calls at once on one gRPC connection", &L::max_grpc_streams,
       1, 1 << 20},
      {"header-deadline",
       "Limits",
       "seconds a request's head, and a TLS handshake, may take",
       &L::header_deadline_ms,
       1,
       3600,
       {},
       true},
      {"body-idle",
       "Limits",
       "seconds a request's body may stall; it must also keep 1 KiB a second",
       &L::body_idle_ms,
       1,
       3600,
       {},
       true},
      {"keepalive-idle",
       "Limits",
       "seconds an idle connection is kept",
       &L::keepalive_idle_ms,
       1,
       86'400,
       {},
       true},
      {"max-connection-requests", "Limits", "requests of one connection",
       &L::max_requests_per_connection, 1, 1 << 30},
      {"max-connections", "Limits", "open connections", &L::max_connections, 1, 1 << 20},
      {"max-connections-per-address", "Limits", "open connections of one address",
       &L::max_connections_per_address, 1, 1 << 20},
      {"stream-buffer-bytes", "Limits", "bytes a stream may lag behind before it is cut off",
       &L::stream_buffer_bytes, 4096, 1 << 30},
      {"write-stall",
       "Limits",
       "seconds a write may stall before the stream is cut off",
       &L::write_stall_ms,
       1,
       3600,
       {},
       true},
      {"sse-ping",
       "Limits",
       "seconds between keep-alive comments of a quiet stream",
       &L::sse_ping_ms,
       1,
       3600,
       {},
       true},

      {"check", "Operation", "look for NaN and infinity in every weight before serving",
       &Config::check},
      {"drain", "Operation", "seconds that running requests may finish in after SIGTERM",
       &Config::drain_s, 0, 86'400},
      {"watchdog-soft", "Operation", "seconds without a step, while there is work, until not ready",
       &Config::watchdog_soft_s, 1, 86'400},
      {"watchdog-hard", "Operation", "seconds without a step, while there is work, until exit",
       &Config::watchdog_hard_s, 1, 86'400},
      {"log-format", "Operation", "text or json", &Config::log_format, 0, 0, {"text", "json"}},
      {"log-level",
       "Operation",
       "debug, info, warning or error",
       &Config::log_level,
       0,
       0,
       {"debug", "info", "warning", "error"}},
  };
  return rows;
}

absl::Status Assign(const SettingRow& row, const std::string& text, Config& config) {
  return std::visit(
      Overloaded{
          [&](IntField field) { return AssignNumber(row, text, config.*field); },
          [&](Int64Field field) { return AssignNumber(row, text, config.*field); },
          [&](LimitField field) { return AssignNumber(row, text, config.limits.*field); },
          [&](Limit64Field field) { return AssignNumber(row, text, config.limits.*field); },
          [&](BoolField field) { return AssignBool(row, text, config.*field); },
          [&](StringField field) { return AssignString(row, text, config.*field); },
          [&](ListField field) {
            config.*field = absl::StrSplit(text, ',', absl::SkipWhitespace());
            return absl::OkStatus();
          },
      },
      row.field);
}

std::string Show(const SettingRow& row, const Config& config) {
  return std::visit(
      Overloaded{
          [&](IntField field) { return ShowNumber(row, config.*field); },
          [&](Int64Field field) { return ShowNumber(row, config.*field); },
          [&](LimitField field) { return ShowNumber(row, config.limits.*field); },
          [&](Limit64Field field) { return ShowNumber(row, config.limits.*field); },
          [&](BoolField field) { return std::string(config.*field ? "true" : "false"); },
          [&](StringField field) { return config.*field; },
          [&](ListField field) { return absl::StrJoin(config.*field, ","); },
      },
      row.field);
}

}  // namespace modu::config
