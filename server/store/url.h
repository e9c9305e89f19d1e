// URLs as far as a download needs them.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace modu::store {

struct Url {
  bool tls = true;
  std::string host;      // without brackets
  std::string port;      // digits
  std::string target;    // path and query, starts with "/"
  std::string fragment;  // without "#"

  std::string Authority() const;  // for the Host header
  bool IsLoopback() const;
};

/// http and https only; no user names, no white space or control characters. kInvalidArgument says
/// what is wrong.
absl::StatusOr<Url> ParseUrl(const std::string& text);
/// A Location header against the URL that answered it.
absl::StatusOr<Url> ResolveLocation(const Url& base, const std::string& location);
bool LooksLikeUrl(const std::string& text);

}  // namespace modu::store
