// `modu tokenize` and `modu detokenize`: JSON on stdin, JSON on stdout, from a tokenizer.json, a
// GGUF file or a folder that need not have weights. For scripts and for comparing with other
// implementations.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace modu::cli {

/// Arguments as main has them behind the command's name: argv[0] is the command. Returns the exit
/// status: 0, 1 for a failure (on stderr), 2 for a wrong command line.
int RunTokenize(int argc, char** argv);
int RunDetokenize(int argc, char** argv);

/// The same on streams. `["text", ...]` to `[[ids], ...]`.
absl::Status Tokenize(const std::vector<std::string>& arguments, std::istream& in,
                      std::ostream& out);
/// `[[ids], ...]` to `["text", ...]`; what is no UTF-8 becomes U+FFFD.
absl::Status Detokenize(const std::vector<std::string>& arguments, std::istream& in,
                        std::ostream& out);

}  // namespace modu::cli
