// Request heads: whatever the bytes and wherever they are cut, the scanner says the same, errors
// are well formed, and a head that passes our checks means to Beast exactly what it means to us: no
// two opinions on where a body ends.
#include <algorithm>
#include <string_view>

#include "boost/asio/buffer.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "kernels/check.h"
#include "server/http/answer_head.h"
#include "server/http/head_check.h"
#include "server/http/router.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

namespace {

using http::HeadScanner;

void CheckError(const api::ApiError& error) {
  MODU_CHECK(error.http_status >= 400 && error.http_status <= 505);
  MODU_CHECK(!error.message.empty());
}

HeadScanner ScanInSteps(std::string_view bytes, size_t step, HeadScanner::State* state) {
  const api::Limits limits;
  HeadScanner scanner;
  *state = HeadScanner::State::kMore;
  for (size_t end = std::min(step, bytes.size()); *state == HeadScanner::State::kMore;
       end = std::min(end + step, bytes.size())) {
    *state = scanner.Scan(bytes.substr(0, end), limits);
    if (end == bytes.size()) break;
  }
  return scanner;
}

void CompareWithBeast(std::string_view head, const http::Framing& framing) {
  namespace beast = boost::beast;
  beast::http::request_parser<beast::http::string_body> parser;
  parser.header_limit(1 << 20);
  parser.body_limit(boost::none);
  boost::system::error_code ec;
  parser.put(boost::asio::buffer(head.data(), head.size()), ec);
  if (ec || !parser.is_header_done()) return;  // stricter than we are: the session answers 400
  MODU_CHECK(parser.chunked() == framing.chunked);
  const auto length = parser.content_length();
  MODU_CHECK(length.has_value() == framing.content_length.has_value());
  if (length) MODU_CHECK(*length == *framing.content_length);
  MODU_CHECK(!(framing.chunked && framing.content_length));
  MODU_CHECK(parser.get().version() == 10 || parser.get().version() == 11);
  std::string path, query;
  const auto target = parser.get().target();
  if (http::SplitTarget({target.data(), target.size()}, &path, &query)) MODU_CHECK(!path.empty());
  const auto id = parser.get()["X-Request-Id"];
  const std::string chosen = http::ChooseRequestId({id.data(), id.size()});
  MODU_CHECK(!chosen.empty() && chosen.size() <= 128);
  MODU_CHECK(chosen.find_first_of("\r\n \"") == std::string::npos);
  const auto type = parser.get()["Content-Type"];
  http::IsJsonContentType({type.data(), type.size()});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  HeadScanner::State whole, cut;
  const HeadScanner first = ScanInSteps(bytes, std::max<size_t>(1, size), &whole);
  const HeadScanner second = ScanInSteps(bytes, 1, &cut);
  MODU_CHECK(whole == cut);
  if (whole == HeadScanner::State::kBad) {
    CheckError(first.error());
    MODU_CHECK(first.error().http_status == second.error().http_status);
  }
  if (whole != HeadScanner::State::kComplete) return 0;
  MODU_CHECK(first.head_bytes() == second.head_bytes() && first.head_bytes() <= size);
  const std::string_view head = bytes.substr(0, first.head_bytes());
  MODU_CHECK(head.ends_with("\r\n\r\n"));
  http::Framing framing;
  if (const auto error = http::CheckHead(head, api::Limits(), &framing)) {
    CheckError(*error);
    return 0;
  }
  CompareWithBeast(head, framing);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {
      "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "POST /v1/chat/completions HTTP/1.1\r\nHost: [::1]:8000\r\nContent-Type: application/json; "
      "charset=utf-8\r\nContent-Length: 2\r\nAuthorization: Bearer k\r\nX-Request-Id: "
      "a-1\r\n\r\n{}",
      "POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: "
      "100-continue\r\n\r\n",
      "GET http://a/v1/models/org%2Fname?x=y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n",
  };
}
