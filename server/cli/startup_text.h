// What a person sees when a server starts and ends, on stderr: every setting with its source,
// progress, what is served, a line to try. With the JSON log format the same as log lines, and no
// progress, so that stderr holds nothing else.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace modu::cli {

struct ModelSetup;

struct BoundPorts {
  int rest, grpc, admin;  // -1: none
};

/// Values of key files are paths, never keys.
void PrintSettings(const config::Config& config);
/// Of a fetch or a load: to be called with the bytes done and in all.
std::function<void(int64_t done, int64_t total)> ShowProgress(const config::Config& config,
                                                              const std::string& doing);
void PrintRemark(const config::Config& config, const std::string& text);
void PrintServed(const config::Config& config, const ModelSetup& model, const BoundPorts& ports,
                 double seconds);
void PrintCannotStart(const config::Config& config, const absl::Status& why);
void PrintDraining(const config::Config& config);

}  // namespace modu::cli
