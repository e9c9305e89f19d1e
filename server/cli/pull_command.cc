#include "server/cli/pull_command.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "server/store/progress_line.h"
#include "server/store/store.h"

namespace modu::cli {

int RunPull(int argc, char** argv) {
  store::StoreOptions options = store::StoreOptionsFromEnvironment();
  std::string name;
  bool named = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--allow-http") {
      options.allow_http = true;
    } else if (!named && !argument.empty() && argument[0] != '-') {
      name = argument;
      named = true;
    } else {
      const bool help = argument == "--help" || argument == "-h";
      if (!help) std::fprintf(stderr, "modu pull: unexpected \"%s\"\n", argument.c_str());
      std::FILE* const out = help ? stdout : stderr;
      std::fprintf(out, "usage: modu pull [NAME|URL[#sha256=HEX]] [--allow-http]\nNames:");
      for (const store::CatalogueEntry& entry : options.catalogue)
        std::fprintf(out, " %s", entry.name.c_str());
      std::fprintf(out, "\nWithout a name: the default model, %s.\n",
                   options.catalogue.front().name.c_str());
      return help ? 0 : 2;
    }
  }
  auto line = std::make_unique<store::ProgressLine>(STDERR_FILENO, "fetching");
  options.progress = [&](int64_t done, int64_t total) { line->Update(done, total); };
  options.say = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  const absl::StatusOr<std::string> path = store::Pull(name, options);
  line.reset();
  if (!path.ok()) {
    std::fprintf(stderr, "modu pull: %s\n", std::string(path.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", path->c_str());
  return 0;
}

}  // namespace modu::cli
