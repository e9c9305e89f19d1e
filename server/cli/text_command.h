// What the commands on text share: JSON on stdin to JSON on stdout, --help, models by name.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace modu::cli {

/// A command's work. WrongUsage's error: the arguments are wrong.
using TextCommand = absl::Status (*)(const std::vector<std::string>& arguments, std::istream& in,
                                     std::ostream& out);

/// What is wrong with the arguments, if it can be said, and the command's usage.
absl::Status WrongUsage(const std::string& what, const char* usage);

/// The exit code: 0; 1 for an error, which is on stderr; 2 where that ends with the usage.
int RunTextCommand(const char* usage, TextCommand command, int argc, char** argv);

/// What a command does not know: a flag, or a word more than it takes.
std::string Unexpected(const std::string& argument);

/// All of `in`, which must be one JSON array. Errors: kInvalidArgument.
absl::StatusOr<nlohmann::ordered_json> ReadJsonArray(std::istream& in);

/// A path as it is; else what the store knows by that name, fetched if need be.
absl::StatusOr<std::string> FileOf(const std::string& name);

}  // namespace modu::cli
