#include "server/cli/server.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "server/cli/signals.h"
#include "server/cli/startup_text.h"
#include "server/cli/weight_check.h"
#include "server/store/store.h"
#include "server/telemetry/log.h"

namespace modu::cli {
namespace {

using std::chrono::milliseconds;

/// Where prompts go through tiles the least that a step can carry of one takes most of what others
/// allow, and in a host's slow moments more: with 230 % the p99.9 of the gaps was 3 times the quiet
/// median (benchmarks/results/2026-11-30-amx-clauses.md).
constexpr double kPhasedSlowdown = 2.0;

/// A path on this machine; what is missing is fetched, with progress.
absl::StatusOr<std::string> FindModel(const config::Config& config) {
  store::StoreOptions options = store::StoreOptionsFromEnvironment();
  options.progress = ShowProgress(config, "fetching");
  options.say = [&](const std::string& text) { PrintRemark(config, text); };
  return store::ResolveModel(config.model, options);
}

}  // namespace

Server::Server(config::Config config, ModelSource source)
    : config_(std::move(config)), source_(std::move(source)), keys_(config_.api_key_file) {}

Server::~Server() {
  if (watchdog_ != nullptr) watchdog_->Stop();
  if (doors_ != nullptr) doors_->Stop();
  if (service_ != nullptr) service_->Stop();
  if (engine_ != nullptr) engine_->Stop();
}

absl::Status Server::Start() {
  const int64_t began_ns = clock_.NowNs();
  if (const absl::Status loaded = Load(); !loaded.ok()) return loaded;
  StartEngine();
  MakeWatchdog();
  doors_ = std::make_unique<Doors>(Doors::Dependencies{
      &config_, &keys_, metrics_.get(), service_.get(),
      [this] { return watchdog_->Progressing() ? "" : "the engine makes no progress"; }});
  if (const absl::Status doors = doors_->Open(); !doors.ok()) return doors;
  watchdog_->Start();
  PrintServed(config_, model_, {doors_->rest_port(), doors_->grpc_port(), doors_->admin_port()},
              static_cast<double>(clock_.NowNs() - began_ns) * 1e-9);
  return absl::OkStatus();
}

absl::Status Server::Load() {
  const StartInterrupt interrupt;
  if (const absl::Status ports = Doors::CheckPorts(config_); !ports.ok()) return ports;
  if (const absl::Status tls = Doors::CheckTls(config_); !tls.ok()) return tls;
  if (const absl::Status keys = ReadKeys(); !keys.ok()) return keys;
  const absl::StatusOr<std::string> path = FindModel(config_);
  if (!path.ok()) return path.status();
  if (config_.check) {
    if (const absl::Status finite = CheckWeightsFinite(*path); !finite.ok()) return finite;
  }
  absl::StatusOr<ModelSetup> model = source_(config_, *path, &clock_);
  if (!model.ok()) return model.status();
  model_ = *std::move(model);
  return absl::OkStatus();
}

void Server::StartEngine() {
  metrics_ = std::make_unique<telemetry::Metrics>(model_.served.names.front(), &clock_);
  generation::ServiceOptions service_options;
  service_options.limits = config_.limits;
  service_options.num_text_threads = config_.text_threads;
  service_options.max_running = config_.max_seqs;
  service_ = std::make_unique<generation::GenerationService>(model_.served, service_options,
                                                             &clock_, metrics_.get());

  engine::EngineOptions engine_options;
  engine_options.max_running = config_.max_seqs;
  engine_options.max_step_tokens = model_.max_step_tokens;
  if (config_.max_decode_slowdown >= 0) {
    engine_options.step_budget.max_slowdown = config_.max_decode_slowdown / 100.0;
  } else if (model_.loaded.runner->spec().phased) {
    engine_options.step_budget.max_slowdown = kPhasedSlowdown;
  }
  engine_options.max_draft_tokens = config_.draft_tokens;
  engine_options.prefix_cache = config_.prefix_cache;
  // What was asked for may be "by the model": what it came to be.
  metrics_->SetInfo("engine_config_info",
                    {{"max_seqs", std::to_string(engine_options.max_running)},
                     {"max_step_tokens", std::to_string(engine_options.max_step_tokens)},
                     {"max_decode_slowdown",
                      std::to_string(std::lround(100 * engine_options.step_budget.max_slowdown))},
                     {"draft_tokens", std::to_string(engine_options.max_draft_tokens)}});
  engine_ = std::make_unique<engine::Engine>(std::move(model_.loaded.runner), engine_options,
                                             &clock_, service_.get());
  metrics_->SetStatsSource([this] { return engine_->Stats(); });
  metrics_->AddSource("engine_draining", "1 while no new request is taken.", false,
                      [this] { return service_->draining() ? 1.0 : 0.0; });
  DescribeInMetrics();
  service_->Attach(engine_.get());
  engine_->Start();
}

void Server::DescribeInMetrics() {
  metrics_->SetInfo("build_info", {{"version", MODU_VERSION}, {"compiler", __VERSION__}});
  const engine::RunnerSpec& spec = engine_->spec();
  std::vector<std::pair<std::string, std::string>> cache;
  // vLLM's names where it has the field (its CPU backend calls blocks num_gpu_blocks too); of the
  // first group, the only one of today's models.
  cache.emplace_back("block_size", std::to_string(spec.groups[0].block_size));
  cache.emplace_back("num_gpu_blocks", std::to_string(spec.groups[0].num_blocks));
  cache.emplace_back("cache_dtype", model_.kv_dtype);
  cache.emplace_back("enable_prefix_caching", config_.prefix_cache ? "True" : "False");
  cache.emplace_back("sliding_window", spec.groups[0].window > 0
                                           ? std::to_string(spec.groups[0].window)
                                           : std::string("None"));
  metrics_->SetInfo("cache_config_info", std::move(cache));
}

void Server::MakeWatchdog() {
  const generation::WatchdogOptions options{config_.watchdog_soft_s * int64_t{1000},
                                            config_.watchdog_hard_s * int64_t{1000}};
  watchdog_ = std::make_unique<generation::Watchdog>([this] { return engine_->Stats(); }, &clock_,
                                                     options, [this] { GiveUp(); });
}

void Server::GiveUp() {
  telemetry::Log(telemetry::LogLevel::kError, "engine stuck",
                 {{"stalled_ms", watchdog_->StalledMs()}});
  service_->AbortAll(api::MakeError(500, "the engine made no progress", "engine_stuck"));
  doors_->Abandon(milliseconds(1000));
  telemetry::StopLogging();
  // The engine thread cannot be joined: leave at once, for a supervisor to restart.
  std::_Exit(kExitStuck);
}

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

bool Server::Run(const sigset_t& signals) {
  while (true) {
    const int signal = WaitForSignal(signals, 1000);
    if (signal == SIGHUP) {
      ReloadKeys();
    } else if (signal != 0) {
      return Drain(signals);
    }
  }
}

bool Server::Drain(const sigset_t& signals) {
  PrintDraining(config_);
  doors_->BeginDrain();
  service_->Drain();
  // An answer that is computed is not yet one that its reader has: both have the whole time.
  const auto idle = [this] { return service_->Idle() && doors_->Idle(); };
  const int64_t deadline_ns = clock_.NowNs() + config_.drain_s * int64_t{1'000'000'000};
  while (!idle() && clock_.NowNs() < deadline_ns) {
    const int signal = WaitForSignal(signals, 20);
    if (signal != 0 && signal != SIGHUP) break;
  }
  const bool computed = service_->Idle();
  if (!computed) {
    api::ApiError error = api::MakeError(503, "the server is shutting down", "shutting_down");
    error.retry_after_s = 1;
    service_->AbortAll(error);
  }
  // Over already where all is idle; else the last moment, for what a second signal cut short too.
  const bool delivered = doors_->Drain(milliseconds(1000));
  return computed && delivered;
}

}  // namespace modu::cli
