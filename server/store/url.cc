#include "server/store/url.h"

#include <algorithm>

#include "clients/cpp/modu/endpoint.h"

namespace modu::store {

std::string Url::Authority() const {
  return client::HostHeader({.host = host, .port = port, .tls = tls});
}

bool Url::IsLoopback() const { return host == "localhost" || host == "127.0.0.1" || host == "::1"; }

bool LooksLikeUrl(const std::string& text) { return text.find("://") != text.npos; }

absl::StatusOr<Url> ParseUrl(const std::string& text) {
  const auto wrong = [](const char* what) {
    return absl::InvalidArgumentError(std::string("URL: ") + what);
  };
  if (text.size() > 4096) return wrong("longer than the limit of 4096 characters");
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7F; })) {
    return wrong("white space or control characters");
  }
  Url url;
  size_t at = 0;
  if (text.rfind("https://", 0) == 0) {
    at = 8;
  } else if (text.rfind("http://", 0) == 0) {
    at = 7;
    url.tls = false;
  } else {
    return wrong("only https:// and http:// are understood");
  }
  const size_t end = std::min(text.find_first_of("/?#", at), text.size());
  std::string authority = text.substr(at, end - at);
  if (authority.find('@') != authority.npos) return wrong("user names are not supported");
  size_t colon = authority.rfind(':');
  if (!authority.empty() && authority[0] == '[') {
    const size_t close = authority.find(']');
    if (close == authority.npos) return wrong("']' is missing");
    url.host = authority.substr(1, close - 1);
    colon = close + 1 < authority.size() ? close + 1 : authority.npos;
    if (colon != authority.npos && authority[colon] != ':')
      return wrong("unexpected text after ']'");
  } else {
    url.host = authority.substr(0, colon);
  }
  url.port = colon == authority.npos ? (url.tls ? "443" : "80") : authority.substr(colon + 1);
  const bool digits = !url.port.empty() && url.port.size() <= 5 &&
                      url.port.find_first_not_of("0123456789") == url.port.npos;
  if (!digits || std::stoi(url.port) < 1 || std::stoi(url.port) > 65535)
    return wrong("the port is not from 1 to 65535");
  if (url.host.empty()) return wrong("no host");
  const size_t hash = std::min(text.find('#', end), text.size());
  url.target = text.substr(end, hash - end);
  if (url.target.empty() || url.target[0] != '/') url.target = "/" + url.target;
  if (hash < text.size()) url.fragment = text.substr(hash + 1);
  return url;
}

absl::StatusOr<Url> ResolveLocation(const Url& base, const std::string& location) {
  if (LooksLikeUrl(location)) return ParseUrl(location);
  const std::string origin = std::string(base.tls ? "https:" : "http:");
  if (location.rfind("//", 0) == 0) return ParseUrl(origin + location);
  if (!location.empty() && location[0] == '/')
    return ParseUrl(origin + "//" + base.Authority() + location);
  const std::string path = base.target.substr(0, base.target.find('?'));
  return ParseUrl(origin + "//" + base.Authority() + path.substr(0, path.rfind('/') + 1) +
                  location);
}

}  // namespace modu::store
