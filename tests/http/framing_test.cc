// Rows 7 and 12 to 29 of the table of bad inputs, as data: the bytes, the answers that are right,
// whether the connection must end; then a normal request must work, and nothing may be left behind.
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {
namespace {

struct BadInput {
  int row;
  std::string what, bytes;
  std::set<int> statuses;
  bool closes = true;
};

std::string Head(const std::string& lines) {
  return "POST /v1/chat/completions HTTP/1.1\r\n" + lines + "\r\n";
}
const std::string kHost = "Host: localhost\r\n";
const std::string kJsonType = "Content-Type: application/json\r\n";

std::string WithLength(const std::string& value) {
  return Head(kHost + kJsonType + "Content-Length: " + value + "\r\n") + "{}";
}
std::string WithChunks(const std::string& chunks) {
  return Head(kHost + kJsonType + "Transfer-Encoding: chunked\r\n") + chunks;
}

std::vector<BadInput> Table() {
  std::vector<BadInput> table;
  const auto add = [&](int row, std::string what, std::string bytes, std::set<int> statuses,
                       bool closes = true) {
    table.push_back({row, std::move(what), std::move(bytes), std::move(statuses), closes});
  };
  add(7, "TRACE", "TRACE /livez HTTP/1.1\r\n" + kHost + "\r\n", {405, 400}, false);
  add(7, "CONNECT", "CONNECT a:1 HTTP/1.1\r\n" + kHost + "\r\n", {405, 400}, false);
  add(7, "method override",
      "GET /v1/chat/completions HTTP/1.1\r\n" + kHost + "X-HTTP-Method-Override: POST\r\n\r\n",
      {405}, false);
  add(12, "both lengths",
      Head(kHost + kJsonType + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n") + "{}",
      {400});
  add(12, "both lengths, other order",
      Head(kHost + kJsonType + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n") + "0\r\n\r\n",
      {400});
  add(13, "two differing lengths",
      Head(kHost + kJsonType + "Content-Length: 2\r\nContent-Length: 3\r\n") + "{}", {400});
  for (const char* value :
       {"5, 5", "+5", "-1", "0x10", "1_0", "12345678901234567890", "", " ", "2 2", "\v2"}) {
    add(13, std::string("length ") + value, WithLength(value), {400});
  }
  for (const char* size : {"0_2e", "+1", "-1", "0x1", "11111111111111111", "", " 2", "g"}) {
    add(14, std::string("chunk size ") + size,
        WithChunks(std::string(size) + "\r\n{}\r\n0\r\n\r\n"), {400});
  }
  add(14, "chunk data longer than its size", WithChunks("1\r\n{}\r\n0\r\n\r\n"), {400});
  add(15, "bare LF after the request line", "GET /livez HTTP/1.1\nHost: a\r\n\r\n", {400});
  add(15, "bare LF after a header", "GET /livez HTTP/1.1\r\nHost: a\n\r\n", {400});
  add(15, "bare CR in a header", "GET /livez HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", {400});
  add(15, "bare LF after a chunk size", WithChunks("2\n{}\r\n0\r\n\r\n"), {400});
  add(15, "bare CR in a chunk extension", WithChunks("2;a=\rb\r\n{}\r\n0\r\n\r\n"), {400});
  add(16, "space before the colon", "GET /livez HTTP/1.1\r\nHost : a\r\n\r\n", {400});
  add(16, "folded header", "GET /livez HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", {400});
  add(16, "folded with a tab", "GET /livez HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", {400});
  add(16, "first header folded", "GET /livez HTTP/1.1\r\n Host: a\r\n\r\n", {400});
  for (const char* version :
       {"HTTP/1.32", "HTTP/9.9", "HTTP/2.0", "HTTP/1.", "HTTP/11", "http/1.1", "HTTX/1.1"}) {
    add(17, version, std::string("GET /livez ") + version + "\r\nHost: a\r\n\r\n", {400, 505});
  }
  add(17, "HTTP/0.9", "GET /livez\r\n\r\n", {400, 505});
  add(17, "two spaces", "GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n", {400});
  add(18, "no Host", "GET /livez HTTP/1.1\r\n\r\n", {400});
  add(18, "two Hosts", "GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", {400});
  for (const char* host : {"", "a b", "a/b", "a:b", "[::1", "a:123456", "u@h", "a,b"}) {
    add(18, std::string("Host ") + host,
        std::string("GET /livez HTTP/1.1\r\nHost: ") + host + "\r\n\r\n", {400});
  }
  add(19, "long request line", "GET /" + std::string(9'000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n",
      {414});
  add(20, "long header",
      "GET /livez HTTP/1.1\r\nHost: a\r\nX: " + std::string(9'000, 'a') + "\r\n\r\n", {431});
  std::string many = "GET /livez HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 6; ++i)
    many += "X" + std::to_string(i) + ": " + std::string(7'000, 'a') + "\r\n";
  add(20, "long headers together", many + "\r\n", {431});
  many = "GET /livez HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 101; ++i) many += "X" + std::to_string(i) + ": a\r\n";
  add(20, "too many headers", many + "\r\n", {431});
  add(22, "body over the cap by length", WithLength("4194305"), {413});
  add(22, "body far over the cap", WithLength("99999999999999999"), {413});
  std::string chunks;
  for (int i = 0; i < 70; ++i) chunks += "10000\r\n" + std::string(65'536, 'x') + "\r\n";
  add(23, "body over the cap by chunks", WithChunks(chunks + "0\r\n\r\n"), {413});
  chunks.clear();
  for (int i = 0; i < 100'000; ++i) chunks += "1\r\n \r\n";
  add(24, "very many chunks", WithChunks(chunks), {400});
  add(25, "unknown Expect",
      Head(kHost + kJsonType + "Expect: 200-ok\r\nContent-Length: 2\r\n") + "{}", {417});
  add(26, "bytes after the last request",
      "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /none HTTP/1.1\r\nHost: "
      "a\r\n\r\n",
      {200});
  add(27, "gzip",
      Head(kHost + kJsonType + "Content-Encoding: gzip\r\nContent-Length: 2\r\n") + "{}", {415});
  for (const char* type : {"text/plain", "application/json; charset=utf-16", "application/jsonx",
                           "multipart/form-data; boundary=x"}) {
    add(28, type, Head(kHost + "Content-Type: " + type + "\r\nContent-Length: 2\r\n") + "{}",
        {415});
  }
  add(28, "no type", Head(kHost + "Content-Length: 2\r\n") + "{}", {415});
  add(0, "NUL in a header",
      "GET /livez HTTP/1.1\r\nHost: a\r\nX: a" + std::string(1, '\0') + "b\r\n\r\n", {400});
  add(0, "bad percent", "GET /livez%zz HTTP/1.1\r\nHost: a\r\n\r\n", {400}, false);
  add(0, "Transfer-Encoding gzip", Head(kHost + kJsonType + "Transfer-Encoding: gzip, chunked\r\n"),
      {400, 501});
  return table;
}

}  // namespace

TEST_CASE("bad framing is answered by the table") {
  RunningServer running;
  const std::string good = BodyOf(running.Get("/v1/models"));
  for (const BadInput& input : Table()) {
    INFO("row " << input.row << ": " << input.what);
    RawClient client(running.port());
    client.Send(input.bytes);
    const std::string answer = client.ReadAnswer();
    const int status = StatusOf(answer);
    CHECK(input.statuses.count(status) == 1);
    CAPTURE(status);
    if (status >= 400) {
      const auto body = nlohmann::json::parse(BodyOf(answer), nullptr, false);
      CHECK((body.is_object() && body.contains("error") && body["error"].contains("message")));
    }
    if (input.closes) {
      CHECK(HeaderOf(answer, "Connection") == "close");
      client.ShutdownSend();
      CHECK(client.ReadAll() == "");
      CHECK(client.closed_by_server());
    }
    CHECK(BodyOf(running.Get("/v1/models")) == good);
  }
  CHECK(running.generator.started == 0);
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->counters().connections == 0; }));
  CHECK(running.server->counters().exchanges == 0);
}

TEST_CASE("good framing passes") {
  RunningServer running;
  const std::string body(kChat);
  for (const std::string& request : {
           WithChunks("1\r\n" + body.substr(0, 1) + "\r\n3f;name=\"v\"\r\n" + body.substr(1) +
                      "\r\n0\r\n\r\n"),
           WithChunks("00000040\r\n" + body + "\r\n0\r\nX-Trailer: a\r\n\r\n"),
           std::string("\r\n") + PostJson("/v1/chat/completions", body),
           PostJson("http://localhost/v1/chat/completions", body),
           PostJson("/v1/chat/completions?x=y", body),
       }) {
    INFO(request);
    REQUIRE(body.size() == 0x40);
    RawClient client(running.port());
    client.Send(request);
    CHECK(StatusOf(client.ReadAnswer()) == 200);
    client.Send(PostJson("/v1/chat/completions", body));
    CHECK(StatusOf(client.ReadAnswer()) == 200);  // kept alive
  }
  RawClient old(running.port());
  old.Send("GET /livez HTTP/1.0\r\n\r\n");
  const std::string answer = old.ReadAll();
  CHECK(StatusOf(answer) == 200);
  CHECK(old.closed_by_server());
}

TEST_CASE("a request cut into single bytes is the same request") {
  RunningServer running;
  RawClient client(running.port());
  for (char c : PostJson("/v1/chat/completions", kChat)) client.Send(std::string(1, c));
  CHECK(StatusOf(client.ReadAnswer()) == 200);
}

TEST_CASE("Expect: 100-continue, then silence") {
  api::Limits limits;
  limits.body_idle_ms = 300;
  RunningServer running(limits);
  const std::string head = Head(kHost + kJsonType + "Expect: 100-continue\r\nContent-Length: " +
                                std::to_string(sizeof kChat - 1) + "\r\n");
  RawClient client(running.port());
  client.Send(head);
  CHECK(client.ReadUntil("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(StatusOf(client.ReadAnswer()) == 408);
  RunningServer patient;  // else a busy machine's pause is a silence
  RawClient second(patient.port());
  second.Send(head);
  second.ReadUntil("\r\n\r\n");
  second.Send(kChat);
  CHECK(StatusOf(second.ReadAnswer()) == 200);
}

TEST_CASE("slow heads and idle connections end at their deadlines") {
  api::Limits limits;
  limits.header_deadline_ms = 300;
  limits.keepalive_idle_ms = 600;
  RunningServer running(limits);
  RawClient silent(running.port());
  // What a busy machine sends after the deadline meets a closed connection: again.
  std::unique_ptr<RawClient> kept, slow;
  std::string answer;
  for (int tries = 0; StatusOf(answer) != 200 && tries < 20; ++tries) {
    kept = std::make_unique<RawClient>(running.port());
    kept->Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    answer = kept->ReadAnswer();
  }
  CHECK(StatusOf(answer) == 200);
  for (int tries = 0; StatusOf(answer) != 408 && tries < 20; ++tries) {
    slow = std::make_unique<RawClient>(running.port());
    slow->Send("GET /livez HT");
    answer = slow->ReadAnswer();
  }
  CHECK(StatusOf(answer) == 408);
  CHECK(silent.ReadAll().empty());
  CHECK(silent.closed_by_server());
  CHECK(kept->ReadAll().empty());
  CHECK(kept->closed_by_server());
}

TEST_CASE("connections are bounded, in all and for one address") {
  api::Limits limits;
  limits.max_connections_per_address = 4;
  RunningServer running(limits);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<RawClient>(running.port()));
    clients.back()->Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(StatusOf(clients.back()->ReadAnswer()) == 200);
  }
  RawClient extra(running.port());
  const std::string refusal = extra.ReadAll();
  CHECK(StatusOf(refusal) == 503);
  CHECK(nlohmann::json::parse(BodyOf(refusal))["error"]["code"] == "connection_limit");
  CHECK(BodyOf(refusal).size() == std::stoul(HeaderOf(refusal, "Content-Length")));
  clients.pop_back();
  CHECK(ScriptedGenerator::Eventually([&] { return StatusOf(running.Get("/livez")) == 200; }));
}

TEST_CASE("a connection serves so many requests and no more") {
  api::Limits limits;
  limits.max_requests_per_connection = 2;
  RunningServer running(limits);
  RawClient client(running.port());
  client.Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(HeaderOf(client.ReadAnswer(), "Connection").empty());
  CHECK(HeaderOf(client.ReadAnswer(), "Connection") == "close");
}

}  // namespace modu::testing
