// API keys from a file: one a line, hashed in memory, compared in constant time. Reloaded as a
// whole; thread-safe.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace modu::tenancy {

class ApiKeys {
 public:
  ApiKeys() = default;  // no keys: everything is open
  /// Lines: a key, or `sha256:<64 hex>`; blank lines and # comments are skipped. Errors name the
  /// path and the line, never its text: they are for whoever runs the server.
  static absl::StatusOr<ApiKeys> FromFile(const std::string& path);

  bool required() const { return !digests_.empty(); }
  /// `authorization`: the header's value, "Bearer KEY". Time depends on the number of keys only.
  bool Allows(std::string_view authorization) const;
  /// The key alone, without a scheme.
  bool AllowsKey(std::string_view key) const;
  /// The file could be read by anyone on the machine: worth a warning.
  bool world_readable() const { return world_readable_; }
  size_t size() const { return digests_.size(); }

 private:
  std::vector<std::array<uint8_t, 32>> digests_;
  bool world_readable_ = false;
};

}  // namespace modu::tenancy
