#include "server/http/router.h"

namespace modu::http {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool PercentDecode(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out->push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = HexValue(text[i + 1]), low = HexValue(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return false;
    out->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

bool PatternMatches(std::string_view pattern, std::string_view path, std::string* rest) {
  if (!pattern.ends_with("/*")) return pattern == path;
  pattern.remove_suffix(1);
  if (!path.starts_with(pattern) || path.size() == pattern.size()) return false;
  *rest = std::string(path.substr(pattern.size()));
  return true;
}

}  // namespace

Router::Match Router::Find(std::string_view method, std::string_view path) const {
  Match match;
  for (const Route& route : routes_) {
    std::string rest;
    if (!PatternMatches(route.pattern, path, &rest)) continue;
    const std::string_view own = route.method;
    match.open |= !route.needs_key;
    if (!match.allow.empty()) match.allow += ", ";
    match.allow += own;
    if (own == "GET") match.allow += ", HEAD";
    if (own == method || (own == "GET" && method == "HEAD")) {
      match.route = &route;
      match.path_rest = std::move(rest);
    }
  }
  if (!match.allow.empty()) match.allow += ", OPTIONS";
  return match;
}

bool SplitTarget(std::string_view target, std::string* path, std::string* query) {
  query->clear();
  if (target == "*") {
    path->assign(target);
    return true;
  }
  if (!target.starts_with('/')) {  // absolute form, RFC 9112 3.2.2
    const size_t scheme = target.find("://");
    if (scheme == std::string_view::npos) return false;
    if (target.substr(0, scheme) != "http" && target.substr(0, scheme) != "https") return false;
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  const size_t mark = target.find('?');
  if (mark != std::string_view::npos) *query = std::string(target.substr(mark + 1));
  return PercentDecode(target.substr(0, mark), path);
}

}  // namespace modu::http
