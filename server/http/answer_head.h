// Status lines and headers of answers, as bytes. Pure functions; any thread.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "server/http/exchange.h"

namespace modu::http {

struct AnswerContext {
  std::string request_id;
  std::string allow_origin;  // "" : no CORS headers
  bool keep_alive = true;
  bool http11 = true;
  bool head_only = false;
};

const char* ReasonPhrase(int status);

/// Head and body of a whole answer.
std::string FormatAnswer(const HttpResponse& response, const AnswerContext& context);
/// Head of an event stream: chunked where the client speaks HTTP/1.1, else ended by closing.
std::string FormatStreamHead(const AnswerContext& context);

/// The client's X-Request-Id if it is short and plain, else one of ours.
std::string ChooseRequestId(std::string_view from_client);

/// application/json (or +json), charset absent or utf-8.
bool IsJsonContentType(std::string_view value);

}  // namespace modu::http
