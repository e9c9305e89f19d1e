#include "server/cli/doors.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/listener.h"
#include "server/http/tls.h"
#include "server/telemetry/log.h"

namespace modu::cli {
namespace {

void LogAnswer(const http::AccessRecord& record) {
  telemetry::Log(telemetry::LogLevel::kInfo, "request",
                 {{"method", std::string_view(record.method)},
                  {"route", std::string_view(record.route)},
                  {"status", int64_t{record.status}},
                  {"seconds", record.seconds},
                  {"bytes_out", record.bytes_out},
                  {"request_id", std::string_view(record.request_id)}});
}

void LogCall(const grpc_door::CallRecord& record, const std::string& code) {
  telemetry::Log(telemetry::LogLevel::kInfo, "call",
                 {{"method", std::string_view(record.method)},
                  {"code", std::string_view(code)},
                  {"seconds", record.seconds},
                  {"request_id", std::string_view(record.request_id)}});
}

}  // namespace

Doors::Doors(const Dependencies& dependencies) : on_(dependencies) {}

absl::Status Doors::CheckPorts(const config::Config& config) {
  const struct {
    const char* host_setting;
    const char* port_setting;
    const std::string& host;
    int port;
  } doors[] = {{"host", "port", config.host, config.port},
               {"host", "grpc-port", config.host, config.grpc_port},
               {"admin-host", "admin-port", config.admin_host, config.admin_port}};
  for (const auto& door : doors) {
    if (door.port < 0) continue;
    for (const auto* other = doors; other != &door; ++other) {
      if (door.port > 0 && door.port == other->port && door.host == other->host) {
        return absl::InvalidArgumentError(absl::StrCat(
            other->port_setting, " and ", door.port_setting, ": both are ", door.port));
      }
    }
    const absl::Status free = http::CheckCanListen(door.host, door.port);
    if (free.ok()) continue;
    const char* setting =
        free.code() == absl::StatusCode::kInvalidArgument ? door.host_setting : door.port_setting;
    return absl::Status(free.code(), absl::StrCat(setting, ": ", free.message()));
  }
  return absl::OkStatus();
}

absl::Status Doors::CheckTls(const config::Config& config) {
  if (config.tls_cert.empty()) return absl::OkStatus();
  return http::MakeTlsContext(config.tls_cert, config.tls_key).status();
}

absl::Status Doors::Open() {
  // gRPC first: while it starts, its library ends the process where a descriptor cannot be had, and
  // once REST answers, clients may take the last one. Whoever asks /readyz finds both doors open.
  if (on_.config->grpc_port >= 0) {
    if (const absl::Status grpc = OpenGrpc(); !grpc.ok()) return grpc;
  }
  return OpenRest();
}

std::function<bool(std::string_view)> Doors::AllowKey() const {
  if (!on_.keys->configured()) return {};
  return [keys = on_.keys](std::string_view authorization) { return keys->Allows(authorization); };
}

absl::Status Doors::OpenRest() {
  const config::Config& config = *on_.config;
  http::HttpServerOptions options;
  options.host = config.host;
  options.port = config.port;
  options.admin_host = config.admin_host;
  options.admin_port = config.admin_port;
  options.tls_cert = config.tls_cert;
  options.tls_key = config.tls_key;
  options.cors_origins = config.cors_origins;
  options.public_metrics = config.public_metrics;
  telemetry::Metrics* const metrics = on_.metrics;
  http::HttpServerHooks hooks;
  hooks.allow_key = AllowKey();
  hooks.not_ready = on_.not_ready;
  hooks.scrape = [metrics] { return metrics->Scrape(); };
  hooks.on_answer = [metrics](const http::AccessRecord& record) {
    metrics->HttpRequest(record.route, record.status, record.seconds);
    if (record.write_seconds > 0) metrics->Stage("write", record.write_seconds);
    LogAnswer(record);
  };
  http_ = std::make_unique<http::HttpServer>(std::move(options), std::move(hooks), on_.service);
  CountRest();
  return http_->Start();
}

void Doors::CountRest() {
  const auto add = [this](const char* name, const char* help, bool is_counter,
                          std::atomic<int64_t> http::Counters::* field) {
    on_.metrics->AddSource(name, help, is_counter, [&counters = http_->counters(), field] {
      return static_cast<double>((counters.*field).load());
    });
  };
  add("http_connections", "Open connections of the REST port.", false,
      &http::Counters::connections);
  add("http_connections_refused_total", "Connections refused by a limit.", true,
      &http::Counters::refused_total);
  add("http_bad_framing_total", "Requests whose framing was refused, or that came too slowly.",
      true, &http::Counters::bad_framing_total);
  add("http_streams_cut_off_total", "Readers that fell behind their bound.", true,
      &http::Counters::cut_off_total);
  add("http_writes_stalled_total", "Connections closed because a write stalled.", true,
      &http::Counters::stalled_total);
  add("http_abandoned_total", "Requests whose client went away first.", true,
      &http::Counters::abandoned_total);
}

absl::Status Doors::OpenGrpc() {
  const config::Config& config = *on_.config;
  telemetry::Metrics* const metrics = on_.metrics;
  grpc_door::GrpcServerHooks hooks;
  hooks.allow_key = AllowKey();
  hooks.no_progress = on_.not_ready;
  hooks.on_call_end = [metrics](const grpc_door::CallRecord& record) {
    const std::string code = absl::StatusCodeToString(static_cast<absl::StatusCode>(record.code));
    metrics->GrpcCall(record.method, code, record.seconds);
    if (record.write_seconds > 0) metrics->Stage("write", record.write_seconds);
    LogCall(record, code);
  };
  grpc_ = std::make_unique<grpc_door::GrpcServer>(
      grpc_door::GrpcServerOptions{config.host, config.grpc_port, config.tls_cert, config.tls_key},
      std::move(hooks), on_.service);
  metrics->AddSource("grpc_streams", "Open gRPC streams.", false,
                     [grpc = grpc_.get()] { return double(grpc->num_streams()); });
  metrics->AddSource("grpc_streams_cut_off_total", "gRPC readers that fell behind their bound.",
                     true, [grpc = grpc_.get()] { return double(grpc->cut_off_total()); });
  metrics->AddSource("grpc_connections_refused_total",
                     "gRPC connections closed because only reserved descriptors were left.", true,
                     [grpc = grpc_.get()] { return double(grpc->refused_total()); });
  return grpc_->Start();
}

void Doors::BeginDrain() {
  http_->BeginDrain();
  if (grpc_ != nullptr) grpc_->BeginDrain();
}

bool Doors::Idle() const {
  return http_->counters().exchanges == 0 && (grpc_ == nullptr || grpc_->num_streams() == 0);
}

bool Doors::Drain(std::chrono::milliseconds deadline) {
  const bool http = http_->Drain(deadline);
  const bool grpc = grpc_ == nullptr || grpc_->Drain(deadline);
  return http && grpc;
}

void Doors::Abandon(std::chrono::milliseconds deadline) { http_->Drain(deadline); }

void Doors::Stop() {
  if (grpc_ != nullptr) grpc_->Stop();
  if (http_ != nullptr) http_->Stop();
}

int Doors::rest_port() const { return http_->port(); }
int Doors::grpc_port() const { return grpc_ == nullptr ? -1 : grpc_->port(); }
int Doors::admin_port() const { return on_.config->admin_port < 0 ? -1 : http_->admin_port(); }

}  // namespace modu::cli
