#include "server/cli/text_command.h"

#include <algorithm>
#include <iostream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_text.h"
#include "nlohmann/json.hpp"
#include "server/store/store.h"

namespace modu::cli {

absl::Status WrongUsage(const std::string& what, const char* usage) {
  return absl::InvalidArgumentError(what.empty() ? usage : absl::StrCat(what, "\n", usage));
}

std::string Unexpected(const std::string& argument) {
  const bool flag = argument.size() > 1 && argument[0] == '-';
  return flag ? absl::StrCat("unknown flag ", argument)
              : absl::StrCat("unexpected \"", argument, "\"");
}

int RunTextCommand(const char* usage, TextCommand command, int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto is_help = [](const std::string& word) { return word == "--help" || word == "-h"; };
  if (std::any_of(arguments.begin(), arguments.end(), is_help)) {
    std::cout << usage << '\n';
    return 0;
  }
  const absl::Status status = command(arguments, std::cin, std::cout);
  if (status.ok()) return 0;
  std::cerr << status.message() << '\n';
  return absl::EndsWith(status.message(), usage) ? 2 : 1;
}

absl::StatusOr<nlohmann::ordered_json> ReadJsonArray(std::istream& in) {
  const std::string input{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (const size_t nul = engine::FindNul(input); nul != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("stdin: not JSON, at byte ", nul + 1));
  }
  try {
    auto parsed = nlohmann::ordered_json::parse(input);
    if (!parsed.is_array()) return absl::InvalidArgumentError("stdin: not a JSON array");
    return parsed;
  } catch (const nlohmann::json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat("stdin: not JSON, at byte ", error.byte));
  } catch (const nlohmann::json::out_of_range&) {
    return absl::InvalidArgumentError("stdin: not JSON, a number is out of range");
  }
}

absl::StatusOr<std::string> FileOf(const std::string& name) {
  store::StoreOptions options = store::StoreOptionsFromEnvironment();
  options.say = [](const std::string& text) { std::cerr << text << '\n'; };
  return store::ResolveModel(name, options);
}

}  // namespace modu::cli
