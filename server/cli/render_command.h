// `modu render`: chat templates from the command line. JSON on stdin, JSON on stdout.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace modu::cli {

/// argv[0] is the command. Exit status: 0, 1 for a failure (on stderr), 2 for a wrong command line.
int RunRender(int argc, char** argv);

/// `render FOLDER|TEMPLATE [--bos-token T] [--eos-token T] [--now ISO8601]` on streams: an array of
/// `{messages, tools?, add_generation_prompt?, ...}` to an array of strings. As transformers has
/// it, tools defaults to none; add_generation_prompt to true, as /v1/chat/completions has it. What
/// a template refuses fails with the conversation's index.
absl::Status Render(const std::vector<std::string>& arguments, std::istream& in, std::ostream& out);

}  // namespace modu::cli
