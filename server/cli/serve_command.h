// `modu serve`: reads the configuration, loads the model, wires the rooms together, serves until
// told to stop.
#pragma once

namespace modu::cli {

/// 0 after a drain in which everything finished; 1: could not start (the reason is on stderr); 3:
/// the drain's deadline passed with streams left; 4: the watchdog gave up on a stuck engine.
int RunServe(int argc, char** argv);

}  // namespace modu::cli
