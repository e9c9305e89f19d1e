#include "server/config/checks.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace modu::config {
namespace {

constexpr int kWholeStep = 100;  // percent: a step of decodes alone

absl::Status CheckServedNames(const Config& config) {
  std::set<std::string> seen;
  for (const std::string& name : config.served_model_names) {
    if (!seen.insert(name).second)
      return absl::InvalidArgumentError(
          absl::StrCat("served-model-name: \"", name, "\" stands twice"));
  }
  return absl::OkStatus();
}

bool IsSmall(char c) { return 'a' <= c && c <= 'z'; }
bool IsDigit(char c) { return '0' <= c && c <= '9'; }

/// RFC 3986, section 3.1.
bool IsScheme(const std::string& text) {
  if (text.empty() || !IsSmall(text[0])) return false;
  for (const char c : text) {
    if (!IsSmall(c) && !IsDigit(c) && c != '+' && c != '-' && c != '.') return false;
  }
  return true;
}

/// A name or an address; IPv6 in brackets.
bool IsHost(const std::string& text) {
  const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
  const std::string name = bracketed ? text.substr(1, text.size() - 2) : text;
  if (name.empty()) return false;
  for (const char c : name) {
    const bool plain = IsSmall(c) || IsDigit(c) || c == '.' || c == '-' || c == '_';
    if (!(plain || (bracketed && c == ':'))) return false;
  }
  return true;
}

bool IsPort(const std::string& text) {
  return !text.empty() && text.size() <= 5 &&
         text.find_first_not_of("0123456789") == std::string::npos && std::stoi(text) >= 1 &&
         std::stoi(text) <= 65535;
}

/// RFC 6454, section 6.2, as browsers send it: they are compared byte by byte, so that anything
/// else would never match.
bool IsOrigin(const std::string& text) {
  const size_t slashes = text.find("://");
  if (slashes == std::string::npos || !IsScheme(text.substr(0, slashes))) return false;
  std::string host = text.substr(slashes + 3);
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string::npos && host.back() != ']';
  if (has_port && !IsPort(host.substr(colon + 1))) return false;
  if (has_port) host.resize(colon);
  return IsHost(host);
}

absl::Status CheckOrigins(const Config& config) {
  for (const std::string& origin : config.cors_origins) {
    if (origin == "*" || IsOrigin(origin)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("cors-origins: \"", origin,
                     "\" is neither * nor scheme://host[:port] in small letters, without a path"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBeyondBounds(const Config& config) {
  if (const absl::Status names = CheckServedNames(config); !names.ok()) return names;
  if (const absl::Status origins = CheckOrigins(config); !origins.ok()) return origins;
  if (config.max_decode_slowdown > 0 && config.max_decode_slowdown < kWholeStep) {
    return absl::InvalidArgumentError(
        absl::StrCat("max-decode-slowdown: ", config.max_decode_slowdown,
                     " is less than the step itself: -1 (by the numerics), 0 (no bound) or ",
                     kWholeStep, " and more (percent)"));
  }
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError("tls-cert and tls-key go together");
  }
  if (config.watchdog_hard_s < config.watchdog_soft_s) {
    return absl::InvalidArgumentError("watchdog-hard: must not be below watchdog-soft");
  }
  return absl::OkStatus();
}

}  // namespace modu::config
