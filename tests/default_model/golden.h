// Where the default model and its recorded float32 answers (shared data) are, if they are here.
// That file's README says how large honest errors are in each arithmetic.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/default_model/recorded_answers.h"
#include "tests/shared_data.h"

namespace modu::tests {

inline std::filesystem::path DefaultModelPath() {
  const char* home = std::getenv("MODU_HOME");
  const char* user = std::getenv("HOME");
  const std::filesystem::path root =
      home != nullptr ? std::filesystem::path(home)
                      : std::filesystem::path(user == nullptr ? "" : user) / ".cache/modu";
  return root / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
}

/// Null where model or answers are not here; says so.
inline nlohmann::json LoadGolden() {
  const auto path = SharedData("generation/smollm2-135m-q4_1.json");
  if (!HaveSharedData(path) || !HaveSharedData(DefaultModelPath())) return nullptr;
  return nlohmann::json::parse(ReadWholeFile(path));
}

}  // namespace modu::tests
