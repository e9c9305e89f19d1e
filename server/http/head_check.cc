#include "server/http/head_check.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace modu::http {
namespace {

constexpr std::array<bool, 256> MakeTokenChars() {
  std::array<bool, 256> allowed{};
  for (int c = '0'; c <= '9'; ++c) allowed[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) allowed[c] = allowed[c - 32] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) allowed[static_cast<uint8_t>(c)] = true;
  return allowed;
}
constexpr std::array<bool, 256> kTokenChar = MakeTokenChars();  // RFC 9110 5.6.2

bool IsToken(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return kTokenChar[uint8_t(c)]; });
}

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view TrimBlanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Digits only, no sign, no list, at most 18 of them: what fits cannot overflow.
std::optional<uint64_t> ParseLength(std::string_view text) {
  if (text.empty() || text.size() > 18) return std::nullopt;
  uint64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return value;
}

std::optional<api::ApiError> CheckRequestLine(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return HttpError(400, "malformed request line: METHOD TARGET HTTP/1.1 expected");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!IsToken(method)) return HttpError(400, "malformed method");
  if (target.empty() || std::any_of(target.begin(), target.end(), [](char c) {
        return static_cast<uint8_t>(c) <= ' ' || static_cast<uint8_t>(c) == 0x7f;
      })) {
    return HttpError(400, "malformed request target");
  }
  if (version == "HTTP/1.1" || version == "HTTP/1.0") return std::nullopt;
  if (version.substr(0, 5) == "HTTP/")
    return HttpError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  return HttpError(400, "malformed HTTP version");
}

/// Headers that decide where the body ends and whom the request is for.
class FramingFields {
 public:
  std::optional<api::ApiError> Add(std::string_view name, std::string_view value) {
    if (EqualsIgnoreCase(name, "Content-Length")) {
      const std::optional<uint64_t> length = ParseLength(value);
      if (!length) return HttpError(400, "malformed Content-Length");
      if (length_) return HttpError(400, "more than one Content-Length");
      length_ = length;
    } else if (EqualsIgnoreCase(name, "Transfer-Encoding")) {
      if (chunked_) return HttpError(400, "more than one Transfer-Encoding");
      if (!EqualsIgnoreCase(value, "chunked")) {
        return HttpError(501, "the only Transfer-Encoding supported is chunked");
      }
      chunked_ = true;
    } else if (EqualsIgnoreCase(name, "Host")) {
      if (++num_hosts_ > 1) return HttpError(400, "more than one Host header");
      if (!IsValidHost(value)) return HttpError(400, "malformed Host header");
    } else if (EqualsIgnoreCase(name, "Authorization")) {
      if (++num_authorizations_ > 1) return HttpError(400, "more than one Authorization header");
    }
    return std::nullopt;
  }

  std::optional<api::ApiError> Finish(bool http11, Framing* framing) const {
    if (length_ && chunked_) return HttpError(400, "both Content-Length and Transfer-Encoding");
    if (chunked_ && !http11) return HttpError(400, "Transfer-Encoding needs HTTP/1.1");
    if (http11 && num_hosts_ == 0) return HttpError(400, "missing Host header");
    framing->chunked = chunked_;
    framing->content_length = length_;
    return std::nullopt;
  }

 private:
  std::optional<uint64_t> length_;
  bool chunked_ = false;
  int num_hosts_ = 0, num_authorizations_ = 0;
};

}  // namespace

api::ApiError HttpError(int status, std::string message, std::string code) {
  return api::MakeError(status, std::move(message), std::move(code));
}

bool IsValidHost(std::string_view host) {
  if (host.empty() || host.size() > 255) return false;
  size_t name_end = 0;
  if (host.front() == '[') {
    name_end = host.find(']');
    if (name_end == std::string_view::npos || name_end < 3) return false;
    const std::string_view address = host.substr(1, name_end - 1);
    if (address.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos)
      return false;
    ++name_end;
  } else {
    name_end = std::min(host.find(':'), host.size());
    const auto allowed = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
             c == '.' || c == '-' || c == '_';
    };
    if (name_end == 0 || !std::all_of(host.begin(), host.begin() + name_end, allowed)) return false;
  }
  std::string_view port = host.substr(name_end);
  if (port.empty()) return true;
  port.remove_prefix(1);
  return host[name_end] == ':' && port.size() <= 5 &&
         port.find_first_not_of("0123456789") == std::string_view::npos;
}

HeadScanner::State HeadScanner::Bad(int status, std::string message) {
  error_ = HttpError(status, std::move(message));
  return State::kBad;
}

HeadScanner::State HeadScanner::Scan(std::string_view bytes, const api::Limits& limits) {
  for (; scanned_ < bytes.size(); ++scanned_) {
    const char c = bytes[scanned_];
    if (saw_cr_) {
      saw_cr_ = false;
      if (c != '\n') return Bad(400, "bare CR in the request head");
      const size_t line_bytes = scanned_ - 1 - line_start_;
      line_start_ = scanned_ + 1;
      if (line_bytes == 0) {
        if (num_lines_ == 0) return Bad(400, "empty request line");
        ++scanned_;
        head_bytes_ = scanned_;
        return State::kComplete;
      }
      if (++num_lines_ > limits.max_headers + 1) {
        return Bad(431, "more than " + std::to_string(limits.max_headers) + " headers");
      }
      continue;
    }
    if (c == '\r') {
      saw_cr_ = true;
    } else if (c == '\n') {
      return Bad(400, "bare LF in the request head");
    } else if (c == '\0') {
      return Bad(400, "NUL in the request head");
    } else if (num_lines_ == 0) {
      if (scanned_ >= static_cast<size_t>(limits.max_request_line_bytes)) {
        return Bad(414,
                   "request line over " + std::to_string(limits.max_request_line_bytes) + " bytes");
      }
    } else if (scanned_ - line_start_ >= static_cast<size_t>(limits.max_one_header_bytes)) {
      return Bad(431, "one header over " + std::to_string(limits.max_one_header_bytes) + " bytes");
    } else if (scanned_ >= static_cast<size_t>(limits.max_header_bytes)) {
      return Bad(431, "headers over " + std::to_string(limits.max_header_bytes) + " bytes");
    }
  }
  return State::kMore;
}

std::optional<api::ApiError> CheckHead(std::string_view head, const api::Limits& limits,
                                       Framing* framing) {
  size_t end = head.find("\r\n");
  const std::string_view request_line = head.substr(0, end);
  if (auto error = CheckRequestLine(request_line)) return error;
  const bool http11 = request_line.ends_with("1.1");

  FramingFields fields;
  int32_t num_headers = 0;
  for (size_t start = end + 2; start < head.size(); start = end + 2) {
    end = head.find("\r\n", start);
    if (end == std::string_view::npos || end == start) break;
    const std::string_view line = head.substr(start, end - start);
    if (++num_headers > limits.max_headers) {
      return HttpError(431, "more than " + std::to_string(limits.max_headers) + " headers");
    }
    if (line.front() == ' ' || line.front() == '\t') return HttpError(400, "folded header line");
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return HttpError(400, "header line without a colon");
    const std::string_view name = line.substr(0, colon);
    if (!IsToken(name)) return HttpError(400, "malformed header name");
    const std::string_view value = TrimBlanks(line.substr(colon + 1));
    if (std::any_of(value.begin(), value.end(), [](char c) {
          return (static_cast<uint8_t>(c) < ' ' && c != '\t') || static_cast<uint8_t>(c) == 0x7f;
        })) {
      return HttpError(400, "control character in a header value");
    }
    if (auto error = fields.Add(name, value)) return error;
  }
  return fields.Finish(http11, framing);
}

}  // namespace modu::http
