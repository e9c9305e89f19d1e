// Where test data that is too large for the repository lies, where it lies at all: ../shared/data
// beside the checkout.
#pragma once
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/catch.h"

namespace modu::tests {

inline std::filesystem::path SharedData(const std::string& relative) {
  return std::filesystem::path(MODU_SOURCE_DIR) / ".." / "shared" / "data" / relative;
}

/// True where the file or folder is present; says so where it is not, and the test then returns.
inline bool HaveSharedData(const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) return true;
  WARN("skipped: no shared data here (" << path.filename().string() << ")");
  return false;
}

inline std::string ReadWholeFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace modu::tests
