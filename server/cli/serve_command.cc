#include "server/cli/serve_command.h"

#include <cstdio>
#include <cstring>
#include <utility>

#include "server/cli/server.h"
#include "server/cli/signals.h"
#include "server/cli/startup_text.h"
#include "server/config/descriptor_limit.h"
#include "server/config/load.h"
#include "server/telemetry/log.h"

namespace modu::cli {
namespace {

constexpr int kExitCannotStart = 1, kExitStreamsCut = 3;

}  // namespace

int RunServe(int argc, char** argv) { return ServeOn(ModelOn(kernels::OpenCpuDevice), argc, argv); }

int ServeOn(const ModelSource& source, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(config::HelpText().c_str(), stdout);
      return 0;
    }
  }
  const absl::StatusOr<config::Config> config = config::LoadConfig({argv + 1, argv + argc});
  if (!config.ok()) {
    std::fprintf(stderr, "modu serve: %s\n", std::string(config.status().message()).c_str());
    return kExitCannotStart;
  }
  config::RaiseDescriptorLimit();
  const sigset_t signals = BlockSignals();
  if (const absl::Status log = telemetry::StartLogging({config->log_format, config->log_level});
      !log.ok()) {
    std::fprintf(stderr, "modu serve: %s\n", std::string(log.message()).c_str());
    return kExitCannotStart;
  }
  PrintSettings(*config);
  int code = kExitCannotStart;
  {
    Server server(*config, source);
    const absl::Status started = server.Start();
    if (!started.ok()) {
      PrintCannotStart(*config, started);
    } else {
      code = server.Run(signals) ? 0 : kExitStreamsCut;
    }
  }
  telemetry::StopLogging();
  return code;
}

}  // namespace modu::cli
