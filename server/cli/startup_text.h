// What a person sees when a server starts: every setting with its source, what is served, a line to
// try.
#pragma once
#include "server/cli/model_setup.h"
#include "server/config/config.h"

namespace modu::cli {

/// To stderr; values of key files are paths, never keys.
void PrintSettings(const config::Config& config);
void PrintServed(const config::Config& config, const ModelSetup& model, int port, double seconds);

}  // namespace modu::cli
