// API keys from a file: one a line, hashed in memory, compared in constant time. Reloaded as a whole; thread-safe.
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
  /// Lines: a key, or `sha256:<64 hex>`; blank lines and # comments are skipped. Errors name the line, never its text.
  static absl::StatusOr<ApiKeys> FromFile(const std::string& path);

  bool required() const { return !digests_.empty(); }
  /// `authorization`: the header's value, "Bearer KEY". Time depends on the number of keys only.
  bool Allows(std::string_view authorization) const;

 private:
  std::vector<std::array<uint8_t, 32>> digests_;
};

}  // namespace modu::tenancy
