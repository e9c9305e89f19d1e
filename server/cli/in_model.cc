#include "server/cli/in_model.h"

#include <filesystem>

#include "absl/strings/str_cat.h"

namespace modu::cli {

absl::Status InModel(const std::string& path, const absl::Status& error) {
  std::string what(error.message());
  const std::string name = std::filesystem::path(path).filename().string() + ": ";
  if (what.compare(0, name.size(), name) == 0) what.erase(0, name.size());
  return absl::Status(error.code(), absl::StrCat(path, ": ", what));
}

}  // namespace modu::cli
