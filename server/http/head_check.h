// Strict framing of a request head, run on the raw bytes before Beast parses them: Beast folds
// obs-fold lines, lets some line ends, versions and Host headers pass, and two servers that
// disagree about framing are a smuggling hole. Plain functions and one small scanner; no I/O.
// Rules: RFC 9110, RFC 9112; rows 12-20 of the table of bad inputs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "server/api/error.h"
#include "server/api/limits.h"

namespace modu::http {

/// Looks for the end of the head as bytes come in; each byte is looked at once.
class HeadScanner {
 public:
  enum class State { kMore, kComplete, kBad };

  /// `bytes`: everything received of this head so far (a longer prefix each call).
  State Scan(std::string_view bytes, const api::Limits& limits);
  size_t head_bytes() const { return head_bytes_; }      // with the empty line; after kComplete
  const api::ApiError& error() const { return error_; }  // after kBad
  void Reset() { *this = HeadScanner(); }

 private:
  State Bad(int status, std::string message);

  size_t scanned_ = 0, line_start_ = 0, head_bytes_ = 0;
  int32_t num_lines_ = 0;
  bool saw_cr_ = false;
  api::ApiError error_;
};

struct Framing {
  bool chunked = false;
  std::optional<uint64_t> content_length;
};

/// A whole head, CRLF CRLF included. An error's http_status is 400, 431, 501 or 505; the connection
/// is to be closed.
std::optional<api::ApiError> CheckHead(std::string_view head, const api::Limits& limits,
                                       Framing* framing);

/// What a Host header may say: a name, an IPv4 address or a bracketed IPv6 address, and a port.
bool IsValidHost(std::string_view host);

api::ApiError HttpError(int status, std::string message, std::string code = "");

}  // namespace modu::http
