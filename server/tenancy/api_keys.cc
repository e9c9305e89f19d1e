#include "server/tenancy/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace modu::tenancy {
namespace {

using Digest = std::array<uint8_t, 32>;

Digest Sha256(std::string_view text) {
  Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

int HexDigit(char c) {
  if ('0' <= c && c <= '9') return c - '0';
  if ('a' <= c && c <= 'f') return c - 'a' + 10;
  if ('A' <= c && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ParseDigest(std::string_view hex, Digest* digest) {
  if (hex.size() != 2 * digest->size()) return false;
  for (size_t i = 0; i < digest->size(); ++i) {
    const int high = HexDigit(hex[2 * i]), low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*digest)[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

// Abseil's string_view is not the standard's on Debian 12.
std::string_view Strip(std::string_view text) {
  const auto space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

bool IsBearer(std::string_view scheme) {
  constexpr std::string_view kBearer = "bearer ";
  if (scheme.size() != kBearer.size()) return false;
  for (size_t i = 0; i < scheme.size(); ++i) {
    const char lower =
        'A' <= scheme[i] && scheme[i] <= 'Z' ? static_cast<char>(scheme[i] + 32) : scheme[i];
    if (lower != kBearer[i]) return false;
  }
  return true;
}

constexpr size_t kMaxKeys = 10'000;
constexpr size_t kMaxLine = 4096;

absl::Status Wrong(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("api-key-file: ", path, ": ", what));
}

absl::Status CannotRead(const std::string& path) {
  return Wrong(path,
               "cannot be read: " + std::error_code(errno, std::generic_category()).message());
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::FromFile(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return CannotRead(path);
  if (!S_ISREG(info.st_mode)) return Wrong(path, "not a regular file");
  std::ifstream file(path);
  if (!file) return CannotRead(path);
  ApiKeys keys;
  keys.world_readable_ = (info.st_mode & S_IROTH) != 0;
  std::string raw;
  for (size_t number = 1; std::getline(file, raw); ++number) {
    const auto error = [&](const char* what) {
      return Wrong(path, absl::StrCat("line ", number, ": ", what));
    };
    if (raw.size() > kMaxLine) return error("longer than 4096 bytes");
    std::string_view line = Strip(raw);
    if (line.empty() || line.front() == '#') continue;
    for (char c : line) {
      // A header could never carry it, so nobody could ever use it.
      if (c <= 0x20 || c >= 0x7f)
        return error("a key has only printable ASCII characters, without spaces");
    }
    Digest digest{};
    if (absl::StartsWithIgnoreCase({line.data(), line.size()}, "sha256:")) {
      line.remove_prefix(7);
      if (!ParseDigest(line, &digest)) return error("sha256: takes 64 hexadecimal digits");
    } else {
      digest = Sha256(line);
    }
    keys.digests_.push_back(digest);
    if (keys.digests_.size() > kMaxKeys) return error("more than 10000 keys");
  }
  OPENSSL_cleanse(raw.data(), raw.size());
  // A file without keys would leave open what somebody meant to close.
  if (keys.digests_.empty()) return Wrong(path, "holds no key");
  return keys;
}

bool ApiKeys::Allows(std::string_view authorization) const {
  if (!required()) return true;
  constexpr size_t kScheme = 7;  // "Bearer "
  if (!IsBearer(authorization.substr(0, kScheme))) return false;
  authorization.remove_prefix(kScheme);
  return AllowsKey(Strip(authorization));
}

bool ApiKeys::AllowsKey(std::string_view key) const {
  if (!required()) return true;
  const Digest digest = Sha256(key);
  // All of them, always: the time says nothing of which one matched.
  unsigned found = 0;
  for (const Digest& known : digests_) {
    found |= static_cast<unsigned>(CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0);
  }
  return found != 0;
}

}  // namespace modu::tenancy
