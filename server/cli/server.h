// Everything that serves, in the order in which it is made: keys, model, engine, watchdog, doors.
// Taken down in reverse. Start-up thread.
#pragma once
#include <csignal>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "server/cli/doors.h"
#include "server/cli/model_setup.h"
#include "server/config/config.h"
#include "server/generation/generation_service.h"
#include "server/generation/watchdog.h"
#include "server/telemetry/metrics.h"
#include "server/tenancy/key_file.h"

namespace modu::cli {

class Server {
 public:
  Server(config::Config config, ModelSource source);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Signals to end are obeyed at once until the doors open. Errors name the setting or the file.
  absl::Status Start();
  /// Blocks until a signal or the watchdog ends it; then drains. False: streams were cut.
  bool Run(const sigset_t& signals);

  static constexpr int kExitStuck = 4;  // the watchdog's; it cannot return

 private:
  absl::Status ReadKeys();
  void ReloadKeys();
  absl::Status Load();
  void StartEngine();
  void DescribeInMetrics();
  void MakeWatchdog();
  /// Watchdog thread: the engine is stuck. Ends the process.
  void GiveUp();
  bool Drain(const sigset_t& signals);

  const config::Config config_;
  const ModelSource source_;
  engine::SteadyClock clock_;
  tenancy::KeyFile keys_;
  ModelSetup model_;
  std::unique_ptr<telemetry::Metrics> metrics_;
  std::unique_ptr<generation::GenerationService> service_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<generation::Watchdog> watchdog_;
  std::unique_ptr<Doors> doors_;
};

}  // namespace modu::cli
