// `modu serve`: reads the configuration, loads the model, wires the rooms together, serves until
// told to stop.
#pragma once
#include "server/cli/model_setup.h"

namespace modu::cli {

/// 0 after a drain in which everything finished; 1: could not start (the reason is on stderr); 3:
/// the drain's deadline passed with streams left; 4: the watchdog gave up on a stuck engine.
int RunServe(int argc, char** argv);

/// The same with a model from outside.
int ServeOn(const ModelSource& source, int argc, char** argv);

}  // namespace modu::cli
