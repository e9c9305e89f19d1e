// modu: one binary, one command each. Commands live in server/cli; `serve` wires the whole server.
#include <cstdio>
#include <cstring>

#include "server/cli/chat_command.h"
#include "server/cli/inspect_command.h"
#include "server/cli/pull_command.h"
#include "server/cli/render_command.h"
#include "server/cli/serve_command.h"
#include "server/cli/tokenize_command.h"

namespace {

int RunVersion(int argc, char** argv) {
  if (argc > 1) {
    const bool help = std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0;
    if (!help) std::fprintf(stderr, "modu version: unexpected \"%s\"\n", argv[1]);
    std::fputs("usage: modu version\n", help ? stdout : stderr);
    return help ? 0 : 2;
  }
  std::puts("modu " MODU_VERSION);
  return 0;
}

struct Command {
  const char* name;
  const char* help;
  int (*run)(int argc, char** argv);
};

constexpr Command kCommands[] = {
    {"serve", "serve a model over REST, gRPC and Prometheus", modu::cli::RunServe},
    {"pull", "fetch a model into the model folder", modu::cli::RunPull},
    {"chat", "talk to a server in the terminal", modu::cli::RunChat},
    {"inspect", "what a model file holds and what serving it takes", modu::cli::RunInspect},
    {"tokenize", "JSON strings on stdin to token ids on stdout", modu::cli::RunTokenize},
    {"detokenize", "JSON token ids on stdin to strings on stdout", modu::cli::RunDetokenize},
    {"render", "JSON conversations on stdin to prompts on stdout", modu::cli::RunRender},
    {"version", "the version", RunVersion},
};

void PrintUsage(FILE* out) {
  std::fputs("usage: modu COMMAND [arguments]\n\n", out);
  for (const Command& command : kCommands)
    std::fprintf(out, "  %-12s %s\n", command.name, command.help);
  std::fputs("\n`modu COMMAND --help` says more.\n", out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0) {
    PrintUsage(argc < 2 ? stderr : stdout);
    return argc < 2 ? 2 : 0;
  }
  if (std::strcmp(argv[1], "--version") == 0) return RunVersion(argc - 1, argv + 1);
  for (const Command& command : kCommands) {
    if (std::strcmp(argv[1], command.name) == 0) return command.run(argc - 1, argv + 1);
  }
  std::fprintf(stderr, "modu: unknown command \"%s\"\n\n", argv[1]);
  PrintUsage(stderr);
  return 2;
}
