// Top-p over a list of weights without sorting it. Pure functions, any thread.
#pragma once
#include <vector>

#include "engine/sampling/logit_scan.h"

namespace modu::engine {

/// Keeps the fewest candidates, in `Before` order, whose weights sum to at least `mass` (all of
/// them if none do, one if mass is 0), and leaves them in the order they were in. `work` is
/// scratch. Expected linear time: a quickselect that carries sums. Holtzman et al., "The Curious
/// Case of Neural Text Degeneration" (ICLR 2020).
void KeepNucleus(double mass, std::vector<Candidate>* candidates, std::vector<Candidate>* work);

}  // namespace modu::engine
