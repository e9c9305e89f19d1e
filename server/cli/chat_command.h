// `modu chat`: talk to a model in the terminal, by a running server's REST API or one started for
// the occasion.
#pragma once

namespace modu::cli {

/// argv[0] is the command. Exit status: 0, 1 for a failure (on stderr), 2 for a wrong command line.
int RunChat(int argc, char** argv);

}  // namespace modu::cli
