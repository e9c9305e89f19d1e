// `modu pull NAME|URL`: brings a model into the model folder and prints its path.
#pragma once

namespace modu::cli {

/// argv[0] is the command. Exit status: 0, 1 for a failure (on stderr), 2 for a wrong command line.
int RunPull(int argc, char** argv);

}  // namespace modu::cli
