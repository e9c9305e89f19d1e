#include "server/cli/serve_command.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "server/cli/model_setup.h"
#include "server/cli/startup_text.h"
#include "server/cli/weight_check.h"
#include "server/config/load.h"
#include "server/generation/generation_service.h"
#include "server/generation/watchdog.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/store/progress_line.h"
#include "server/store/store.h"
#include "server/telemetry/log.h"
#include "server/telemetry/metrics.h"
#include "server/tenancy/key_file.h"

namespace modu::cli {
namespace {

constexpr int kExitCannotStart = 1, kExitStreamsCut = 3, kExitStuck = 4;

int64_t NowNs() { return engine::SteadyClock().NowNs(); }

/// SIGTERM, SIGINT and SIGHUP are taken by WaitForSignal only; set before any thread is made, so
/// that all inherit it.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

/// The signal that came within the time, or 0.
int WaitForSignal(const sigset_t& signals, int64_t milliseconds) {
  const timespec timeout{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  return std::max(0, ::sigtimedwait(&signals, nullptr, &timeout));
}

/// A path on this machine; what is missing is fetched, with progress for people.
absl::StatusOr<std::string> FindModel(const std::string& model) {
  store::StoreOptions options = store::StoreOptionsFromEnvironment();
  store::ProgressLine line(STDERR_FILENO);
  options.progress = [&](int64_t done, int64_t total) { line.Update(done, total); };
  options.say = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  return store::ResolveModel(model, options);
}

/// Everything that serves, in the order in which it is made; taken down in reverse.
class Server {
 public:
  Server(config::Config config, OpenDevice open_device)
      : config_(std::move(config)), open_device_(open_device), keys_(config_.api_key_file) {}
  ~Server() { Stop(); }

  absl::Status Start();
  /// Blocks until a signal or the watchdog ends it; then drains. The process's exit code.
  int Run(const sigset_t& signals);

 private:
  absl::Status ReadKeys();
  void ReloadKeys();
  void DescribeInMetrics();
  void CountDoors();
  void StartWatchdog();
  absl::Status StartDoors();
  absl::Status StartGrpc();
  std::string NotReady() const;
  int Drain(const sigset_t& signals);
  void Stop();

  config::Config config_;
  const OpenDevice open_device_;
  engine::SteadyClock clock_;
  tenancy::KeyFile keys_;
  ModelSetup model_;
  std::unique_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<generation::GenerationService> service_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<generation::Watchdog> watchdog_;
  std::unique_ptr<http::HttpServer> http_;
  std::unique_ptr<grpc_door::GrpcServer> grpc_;
};

absl::Status Server::ReadKeys() {
  if (const absl::Status read = keys_.Load(); !read.ok()) return read;
  if (keys_.world_readable()) {
    telemetry::Log(telemetry::LogLevel::kWarning, "the API key file can be read by everyone",
                   {{"advice", std::string_view("chmod 600")}});
  }
  return absl::OkStatus();
}

void Server::ReloadKeys() {
  if (!keys_.configured()) {
    return telemetry::Log(telemetry::LogLevel::kInfo, "nothing to reload: no API key file");
  }
  if (const absl::Status read = ReadKeys(); !read.ok()) {
    const std::string why(read.message());
    return telemetry::Log(telemetry::LogLevel::kError, "API keys not reloaded, the old ones stand",
                          {{"why", std::string_view(why)}});
  }
  telemetry::Log(telemetry::LogLevel::kInfo, "API keys reloaded",
                 {{"keys", static_cast<int64_t>(keys_.size())}});
}

void Server::DescribeInMetrics() {
  metrics_->SetInfo("build_info", {{"version", MODU_VERSION}, {"compiler", __VERSION__}});
  const engine::RunnerSpec& spec = engine_->spec();
  std::vector<std::pair<std::string, std::string>> cache;
  // vLLM's names where it has the field (its CPU backend calls blocks num_gpu_blocks too); of the
  // first group, the only one of today's models.
  cache.emplace_back("block_size", std::to_string(spec.groups[0].block_size));
  cache.emplace_back("num_gpu_blocks", std::to_string(spec.groups[0].num_blocks));
  cache.emplace_back("cache_dtype", config_.kv_dtype);
  cache.emplace_back("enable_prefix_caching", config_.prefix_cache ? "True" : "False");
  cache.emplace_back("sliding_window", spec.groups[0].window > 0
                                           ? std::to_string(spec.groups[0].window)
                                           : std::string("None"));
  metrics_->SetInfo("cache_config_info", std::move(cache));
}

void Server::CountDoors() {
  const auto add = [this](const char* name, const char* help, bool is_counter,
                          std::atomic<int64_t> http::Counters::* field) {
    metrics_->AddSource(name, help, is_counter, [&counters = http_->counters(), field] {
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

absl::Status Server::Start() {
  const int64_t began_ns = NowNs();
  if (const absl::Status keys = ReadKeys(); !keys.ok()) return keys;
  const absl::StatusOr<std::string> path = FindModel(config_.model);
  if (!path.ok()) return path.status();
  if (config_.check) {
    if (const absl::Status finite = CheckWeightsFinite(*path); !finite.ok()) return finite;
  }
  absl::StatusOr<ModelSetup> model = SetUpModel(config_, *path, open_device_, &clock_);
  if (!model.ok()) return model.status();
  model_ = std::move(*model);

  metrics_ = std::make_unique<telemetry::Metrics>(model_.served.names.front(), &clock_);
  generation::ServiceOptions service_options;
  service_options.limits = config_.limits;
  service_options.num_text_threads = config_.text_threads > 0 ? config_.text_threads : 1;
  service_options.max_running = config_.max_seqs;
  service_ = std::make_unique<generation::GenerationService>(model_.served, service_options,
                                                             &clock_, metrics_.get());

  engine::EngineOptions engine_options;
  engine_options.max_running = config_.max_seqs;
  engine_options.max_step_tokens = model_.max_step_tokens;
  engine_options.prefix_cache = config_.prefix_cache;
  engine_ = std::make_unique<engine::Engine>(std::move(model_.loaded.runner), engine_options,
                                             &clock_, service_.get());
  metrics_->SetStatsSource([this] { return engine_->Stats(); });
  DescribeInMetrics();
  service_->Attach(engine_.get());
  engine_->Start();

  StartWatchdog();

  if (const absl::Status doors = StartDoors(); !doors.ok()) return doors;
  PrintServed(config_, model_, http_->port(), static_cast<double>(NowNs() - began_ns) * 1e-9);
  return absl::OkStatus();
}

void Server::StartWatchdog() {
  const generation::WatchdogOptions options{config_.watchdog_soft_s * int64_t{1000},
                                            config_.watchdog_hard_s * int64_t{1000}};
  watchdog_ = std::make_unique<generation::Watchdog>(
      [this] { return engine_->Stats(); }, &clock_, options,
      [this] {
        telemetry::Log(telemetry::LogLevel::kError, "engine stuck",
                       {{"stalled_ms", watchdog_->StalledMs()}});
        service_->AbortAll(
            {500, "the engine made no progress", "server_error", "", "engine_stuck"});
        http_->Drain(std::chrono::seconds(1));
        telemetry::StopLogging();
        // The engine thread cannot be joined: leave at once, for a supervisor to restart.
        std::_Exit(kExitStuck);
      });
  watchdog_->Start();
}

absl::Status Server::StartDoors() {
  http::HttpServerOptions options;
  options.host = config_.host;
  options.port = config_.port;
  options.admin_host = config_.admin_host;
  options.admin_port = config_.admin_port;
  options.tls_cert = config_.tls_cert;
  options.tls_key = config_.tls_key;
  options.cors_origins = config_.cors_origins;
  options.public_metrics = config_.public_metrics;
  http::HttpServerHooks hooks;
  if (keys_.configured()) {
    hooks.allow_key = [this](std::string_view authorization) {
      return keys_.Allows(authorization);
    };
  }
  hooks.not_ready = [this] { return NotReady(); };
  hooks.scrape = [this] { return metrics_->Scrape(); };
  hooks.on_answer = [this](const http::AccessRecord& record) {
    metrics_->HttpRequest(record.route, record.status, record.seconds);
    if (record.write_seconds > 0) metrics_->Stage("write", record.write_seconds);
    telemetry::Log(telemetry::LogLevel::kInfo, "request",
                   {{"method", std::string_view(record.method)},
                    {"route", std::string_view(record.route)},
                    {"status", int64_t{record.status}},
                    {"seconds", record.seconds},
                    {"bytes_out", record.bytes_out},
                    {"request_id", std::string_view(record.request_id)}});
  };
  http_ = std::make_unique<http::HttpServer>(std::move(options), std::move(hooks), service_.get());
  CountDoors();
  if (const absl::Status status = http_->Start(); !status.ok()) return status;
  return config_.grpc_port < 0 ? absl::OkStatus() : StartGrpc();
}

absl::Status Server::StartGrpc() {
  grpc_door::GrpcServerOptions options{config_.host, config_.grpc_port, config_.tls_cert,
                                       config_.tls_key};
  grpc_door::GrpcServerHooks hooks;
  if (keys_.configured()) {
    hooks.allow_key = [this](std::string_view authorization) {
      return keys_.Allows(authorization);
    };
  }
  hooks.not_ready = [this] { return NotReady(); };
  hooks.no_progress = [this] { return NotReady(); };
  hooks.on_stream_end = [this](double write_seconds) { metrics_->Stage("write", write_seconds); };
  grpc_ =
      std::make_unique<grpc_door::GrpcServer>(std::move(options), std::move(hooks), service_.get());
  metrics_->AddSource("grpc_streams", "Open gRPC streams.", false,
                      [grpc = grpc_.get()] { return double(grpc->num_streams()); });
  metrics_->AddSource("grpc_streams_cut_off_total", "gRPC readers that fell behind their bound.",
                      true, [grpc = grpc_.get()] { return double(grpc->cut_off_total()); });
  return grpc_->Start();
}

std::string Server::NotReady() const {
  return watchdog_->Progressing() ? "" : "the engine makes no progress";
}

int Server::Run(const sigset_t& signals) {
  while (true) {
    const int signal = WaitForSignal(signals, 1000);
    if (signal == SIGHUP) {
      ReloadKeys();
    } else if (signal != 0) {
      return Drain(signals);
    }
  }
}

int Server::Drain(const sigset_t& signals) {
  std::fprintf(stderr, "modu: draining, at most %d s; a second signal stops at once\n",
               config_.drain_s);
  http_->BeginDrain();
  service_->Drain();
  const int64_t deadline_ns = NowNs() + config_.drain_s * int64_t{1'000'000'000};
  while (!service_->Idle() && NowNs() < deadline_ns) {
    const int signal = WaitForSignal(signals, 20);
    if (signal != 0 && signal != SIGHUP) break;
  }
  const bool finished = service_->Idle();
  if (!finished) {
    api::ApiError error{503, "the server is shutting down", "server_error", "", "shutting_down"};
    service_->AbortAll(error);
  }
  // Idle means that every last event is on its way; give the sockets a moment to take it.
  http_->Drain(std::chrono::milliseconds(2000));
  if (grpc_ != nullptr) grpc_->Drain(std::chrono::milliseconds(2000));
  return finished ? 0 : kExitStreamsCut;
}

void Server::Stop() {
  if (watchdog_ != nullptr) watchdog_->Stop();
  if (grpc_ != nullptr) grpc_->Stop();
  if (http_ != nullptr) http_->Stop();
  if (service_ != nullptr) service_->Stop();
  if (engine_ != nullptr) engine_->Stop();
}

}  // namespace

int RunServe(int argc, char** argv) { return ServeOn(kernels::OpenCpuDevice, argc, argv); }

int ServeOn(OpenDevice open_device, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(config::HelpText().c_str(), stdout);
      return 0;
    }
  }
  absl::StatusOr<config::Config> config = config::LoadConfig({argv + 1, argv + argc});
  if (!config.ok()) {
    std::fprintf(stderr, "modu serve: %s\n", std::string(config.status().message()).c_str());
    return kExitCannotStart;
  }
  const sigset_t signals = BlockSignals();
  PrintSettings(*config);
  if (const absl::Status log = telemetry::StartLogging({config->log_format, config->log_level});
      !log.ok()) {
    std::fprintf(stderr, "modu serve: %s\n", std::string(log.message()).c_str());
    return kExitCannotStart;
  }
  Server server(std::move(*config), open_device);
  const absl::Status started = server.Start();
  if (!started.ok()) {
    std::fprintf(stderr, "modu serve: %s\n", std::string(started.message()).c_str());
    return kExitCannotStart;
  }
  const int code = server.Run(signals);
  telemetry::StopLogging();
  return code;
}

}  // namespace modu::cli
