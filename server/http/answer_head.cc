#include "server/http/answer_head.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace modu::http {
namespace {

/// RFC 9110 5.6.7, made once a second a thread.
const std::string& DateHeader() {
  thread_local std::time_t made_at = 0;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    static const char* const kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char* const kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm utc{};
    gmtime_r(&now, &utc);
    char line[64];
    std::snprintf(line, sizeof line, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[utc.tm_wday % 7],
                  utc.tm_mday, kMonths[utc.tm_mon % 12], utc.tm_year + 1900, utc.tm_hour,
                  utc.tm_min, utc.tm_sec);
    text = line;
    made_at = now;
  }
  return text;
}

void AppendCommon(const AnswerContext& context, std::string* out) {
  absl::StrAppend(out, "Server: modu\r\nDate: ", DateHeader(),
                  "\r\nX-Request-Id: ", context.request_id, "\r\n");
  if (!context.allow_origin.empty()) {
    absl::StrAppend(
        out, "Access-Control-Allow-Origin: ", context.allow_origin,
        "\r\nAccess-Control-Expose-Headers: X-Request-Id, Retry-After\r\nVary: Origin\r\n");
  }
  if (!context.keep_alive) {
    out->append("Connection: close\r\n");
  } else if (!context.http11) {
    out->append("Connection: keep-alive\r\n");
  }
}

}  // namespace

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return status < 400 ? "OK" : "Error";
  }
}

std::string FormatAnswer(const HttpResponse& response, const AnswerContext& context) {
  std::string out;
  out.reserve(512 + response.body.size());
  absl::StrAppend(&out, context.http11 ? "HTTP/1.1 " : "HTTP/1.0 ", response.status, " ",
                  ReasonPhrase(response.status), "\r\n");
  AppendCommon(context, &out);
  for (const auto& [name, value] : response.headers)
    absl::StrAppend(&out, name, ": ", value, "\r\n");
  if (response.status != 204) {
    absl::StrAppend(&out, "Content-Type: ", response.content_type,
                    "\r\nContent-Length: ", response.body.size(), "\r\n");
  }
  out.append("\r\n");
  if (!context.head_only && response.status != 204) out.append(response.body);
  return out;
}

std::string FormatStreamHead(const AnswerContext& context) {
  std::string out = absl::StrCat(context.http11 ? "HTTP/1.1" : "HTTP/1.0", " 200 OK\r\n");
  AppendCommon(context, &out);
  // The last one asks nginx not to collect the stream.
  out.append(
      "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
      "X-Accel-Buffering: no\r\n");
  if (context.http11) out.append("Transfer-Encoding: chunked\r\n");
  out.append("\r\n");
  return out;
}

std::string ChooseRequestId(std::string_view from_client) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ||
           c == ':';
  };
  if (!from_client.empty() && from_client.size() <= 128 &&
      std::all_of(from_client.begin(), from_client.end(), plain)) {
    return std::string(from_client);
  }
  thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat("req-", absl::Hex(random(), absl::kZeroPad16));
}

bool IsJsonContentType(std::string_view value) {
  // absl::string_view is a type of its own where Abseil was built for C++14: plain std here.
  const auto next_part = [&value] {
    const size_t end = std::min(value.find(';'), value.size());
    std::string part;
    for (char c : value.substr(0, end)) {
      if (c != ' ' && c != '\t' && c != '"')
        part.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    }
    value.remove_prefix(std::min(end + 1, value.size()));
    return part;
  };
  const std::string type = next_part();
  if (type != "application/json" && !(type.starts_with("application/") && type.ends_with("+json")))
    return false;
  while (!value.empty()) {
    const std::string parameter = next_part();
    if (parameter.starts_with("charset=") && parameter != "charset=utf-8" &&
        parameter != "charset=utf8")
      return false;
  }
  return true;
}

}  // namespace modu::http
