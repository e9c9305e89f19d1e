// `modu inspect MODEL`: what a file holds and what serving it will take, without loading weights.
#pragma once

namespace modu::cli {

/// 0, or 1 with the reason on stderr.
int RunInspect(int argc, char** argv);

}  // namespace modu::cli
