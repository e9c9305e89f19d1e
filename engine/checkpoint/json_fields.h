// Typed reads from a JSON object of a model's own files. nlohmann's parser behind a depth budget,
// without exceptions. Only .cc files of engine/checkpoint include this.
#pragma once
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace modu::engine {

using Json = nlohmann::json;

/// False where brackets outside of strings nest deeper than `limit`.
bool JsonNestsWithin(const std::string& text, int limit);

/// An object; errors carry `file_name`.
absl::StatusOr<Json> ParseJsonObject(const std::string& text, const std::string& file_name);

/// Fields of one object. Absent and null are the same. The first error sticks; then everything
/// reads as absent.
class JsonFields {
 public:
  JsonFields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const absl::Status& status() const { return status_; }
  const Json* Find(const char* key) const;
  std::optional<int64_t> Int(const char* key, int64_t low, int64_t high);
  std::optional<double> Float(const char* key);
  std::optional<bool> Bool(const char* key);
  std::optional<std::string> String(const char* key);
  void Fail(const std::string& key, const std::string& what);

 private:
  const Json& object_;
  const std::string where_;  // "config.json" or "config.json: rope_scaling"
  absl::Status status_;
};

}  // namespace modu::engine
