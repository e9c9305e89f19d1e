#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/catch.h"
#include "tests/http/self_signed.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

/// The payloads of the data events; comments are dropped.
std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  size_t start = 0;
  for (;;) {
    const size_t end = body.find("\n\n", start);
    if (end == std::string::npos) {
      CHECK(start == body.size());  // nothing half said
      return events;
    }
    const std::string event = body.substr(start, end - start);
    if (event.starts_with("data: ")) events.push_back(event.substr(6));
    start = end + 2;
  }
}

std::string Said(const std::vector<std::string>& events) {
  std::string text;
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const json chunk = json::parse(event);
    if (!chunk.contains("choices")) continue;
    for (const json& choice : chunk["choices"]) text += choice["delta"].value("content", "");
  }
  return text;
}

}  // namespace

TEST_CASE("a stream is events, [DONE], and the connection goes on") {
  RunningServer running;
  RawClient client(running.port());
  client.Send(PostJson("/v1/chat/completions", kChatStream));
  const std::string answer = client.ReadAnswer();
  REQUIRE(StatusOf(answer) == 200);
  CHECK(HeaderOf(answer, "Content-Type") == "text/event-stream; charset=utf-8");
  CHECK(HeaderOf(answer, "Cache-Control") == "no-cache");
  const auto events = Events(BodyOf(answer));
  REQUIRE(events.size() >= 2);
  CHECK(events.back() == "[DONE]");
  CHECK(json::parse(events[0])["choices"][0]["delta"]["role"] == "assistant");
  CHECK(json::parse(events[events.size() - 2])["choices"][0]["finish_reason"] == "length");
  CHECK(Said(events) == "tok tok tok ");
  client.Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(StatusOf(client.ReadAnswer()) == 200);
}

TEST_CASE("HTTP/1.0 gets its stream without chunks, ended by closing") {
  RunningServer running;
  RawClient client(running.port());
  std::string request = PostJson("/v1/chat/completions", kChatStream);
  request.replace(request.find("HTTP/1.1"), 8, "HTTP/1.0");
  client.Send(request);
  const std::string answer = client.ReadAll();
  CHECK(client.closed_by_server());
  CHECK(HeaderOf(answer, "Transfer-Encoding").empty());
  CHECK(Events(BodyOf(answer)).back() == "[DONE]");
}

TEST_CASE("an error in the stream is its last event") {
  RunningServer running;
  Script script;
  script.fail_after = api::MakeError(500, "numbers went wrong", "numeric_error");
  running.generator.Set(script);
  const auto events = Events(BodyOf(running.Post("/v1/chat/completions", kChatStream)));
  bool found = false;
  for (const std::string& event : events) {
    if (event != "[DONE]")
      found |=
          json::parse(event).value("error", json::object()).value("code", "") == "numeric_error";
  }
  CHECK(found);
  CHECK(Said(events) == "tok tok tok ");
}

TEST_CASE("pings keep a silent stream open") {
  api::Limits limits;
  limits.sse_ping_ms = 50;
  RunningServer running(limits);
  Script script;
  script.num_deltas = 2;
  script.interval_us = 200'000;
  running.generator.Set(script);
  const std::string body = BodyOf(running.Post("/v1/chat/completions", kChatStream));
  CHECK(body.find(": ping\n\n") != std::string::npos);
  CHECK(Events(body).back() == "[DONE]");
}

TEST_CASE("a client that goes away cancels, at every phase") {
  RunningServer running;
  const bool reset = GENERATE(false, true);
  const bool stream = GENERATE(false, true);
  const char* body = stream ? kChatStream : kChat;
  Script script;
  script.num_deltas = -1;
  script.interval_us = 2'000;
  SECTION("before the head is complete") {
    RawClient client(running.port());
    client.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n");
    client.Close(reset);
  }
  SECTION("within the body") {
    RawClient client(running.port());
    const std::string request = PostJson("/v1/chat/completions", body);
    client.Send(std::string_view(request).substr(0, request.size() - 5));
    client.Close(reset);
  }
  SECTION("while queued") {
    script.accept_after_ms = 60'000;
    running.generator.Set(script);
    RawClient client(running.port());
    client.Send(PostJson("/v1/chat/completions", body));
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.running == 1; }));
    client.Close(reset);
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  }
  SECTION("while it decodes") {
    running.generator.Set(script);
    RawClient client(running.port());
    client.Send(PostJson("/v1/chat/completions", body));
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 3; }));
    client.Close(reset);
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  }
  SECTION("at the end") {
    running.generator.Set(Script());
    for (int i = 0; i < 20; ++i) {
      RawClient client(running.port());
      client.Send(PostJson("/v1/chat/completions", body));
      if (i % 2) client.ReadUntil("HTTP");
      client.Close(reset);
    }
  }
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.running == 0; }));
  CHECK(ScriptedGenerator::Eventually([&] {
    return running.server->counters().connections == 0 && running.server->counters().exchanges == 0;
  }));
  running.generator.Set(Script());
  CHECK(StatusOf(running.Post("/v1/chat/completions", kChat)) == 200);
}

TEST_CASE("a reader that stops is cut off, and others do not notice") {
  api::Limits limits;
  limits.stream_buffer_bytes = 64 << 10;
  RunningServer running(limits);
  Script flood;
  flood.num_deltas = -1;
  flood.piece = std::string(2'000, 'x');
  flood.interval_us = 200;
  running.generator.Set(flood);
  RawClient::Options small;
  small.receive_buffer_bytes = 4'096;
  RawClient stuck(running.port(), small);
  stuck.Send(PostJson("/v1/chat/completions", kChatStream));
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 0; }));

  Script steady;
  steady.num_deltas = 100;
  steady.interval_us = 2'000;
  running.generator.Set(steady);
  const auto events = Events(BodyOf(running.Post("/v1/chat/completions", kChatStream)));
  CHECK(events.back() == "[DONE]");
  CHECK(Said(events).size() == 400);

  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  CHECK(running.server->counters().cut_off_total == 1);
  stuck.ReadAll();
  CHECK(stuck.closed_by_server());
}

TEST_CASE("a reader that is late gets the same text in fewer events, plain and over TLS") {
  SelfSigned cert;
  http::HttpServerOptions options;
  RawClient::Options slow;
  slow.receive_buffer_bytes = 4'096;
  slow.tls = GENERATE(false, true);
  if (slow.tls) {
    options.tls_cert = cert.cert_file();
    options.tls_key = cert.key_file();
  }
  RunningServer running({}, options);
  Script flood;
  // As events more than the kernel takes; as text that is held, and with the events of two writes,
  // one in flight and one that was ready before it was seen to wait, less than the bound.
  flood.num_deltas = 10'000;
  running.generator.Set(flood);
  RawClient late(running.port(), slow);
  late.Send(PostJson("/v1/chat/completions", kChatStream));
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.finished == 1; }));
  const auto events = Events(BodyOf(late.ReadAnswer(60'000)));
  REQUIRE(!events.empty());
  CHECK(events.back() == "[DONE]");
  CHECK(Said(events).size() == 40'000);
  CHECK(events.size() < 7'500);
  CHECK(running.server->counters().cut_off_total == 0);
}

TEST_CASE("a write that does not move ends the stream") {
  api::Limits limits;
  limits.stream_buffer_bytes = 64 << 20;
  limits.stream_buffer_events = 1 << 30;
  limits.write_stall_ms = 300;
  RunningServer running(limits);
  Script flood;
  flood.num_deltas = -1;
  flood.piece = std::string(20'000, 'x');
  flood.interval_us = 5'000;
  running.generator.Set(flood);
  RawClient::Options small;
  small.receive_buffer_bytes = 4'096;
  RawClient stuck(running.port(), small);
  stuck.Send(PostJson("/v1/chat/completions", kChatStream));
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  const auto& counters = running.server->counters();
  CHECK(counters.stalled_total + counters.abandoned_total ==
        1);  // ours or TCP_USER_TIMEOUT, whichever is first
}

TEST_CASE("draining: not ready, no new work, streams finish, connections close") {
  RunningServer running;
  Script script;
  script.num_deltas = 50;
  script.interval_us = 10'000;
  running.generator.Set(script);
  RawClient streaming(running.port()), idle(running.port());
  streaming.Send(PostJson("/v1/chat/completions", kChatStream));
  streaming.ReadUntil("tok");
  idle.Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(StatusOf(idle.ReadAnswer()) == 200);
  running.server->BeginDrain();
  idle.ReadAll();
  CHECK(idle.closed_by_server());
  CHECK(StatusOf(running.Get("/readyz")) == 503);
  const std::string alive = running.Get("/livez");
  CHECK(StatusOf(alive) == 200);
  CHECK(HeaderOf(alive, "Connection") == "close");
  const std::string refused = running.Post("/v1/chat/completions", kChat);
  CHECK(StatusOf(refused) == 503);
  CHECK(!HeaderOf(refused, "Retry-After").empty());
  CHECK(running.generator.refused_statuses() == std::vector<int>{503});
  CHECK(running.server->Drain(milliseconds(10'000)));
  CHECK(streaming.ReadUntil("[DONE]").find("[DONE]") != std::string::npos);
  CHECK(running.generator.cancelled == 0);
}

TEST_CASE("the drain's deadline gives each stream a last error event") {
  RunningServer running;
  Script script;
  script.num_deltas = -1;
  script.interval_us = 5'000;
  running.generator.Set(script);
  RawClient streaming(running.port()), waiting(running.port());
  streaming.Send(PostJson("/v1/chat/completions", kChatStream));
  waiting.Send(PostJson("/v1/chat/completions", kChat));
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.running == 2; }));
  CHECK(!running.server->Drain(milliseconds(50)));
  CHECK(streaming.ReadAll().find("shutting_down") != std::string::npos);
  CHECK(StatusOf(waiting.ReadAnswer()) == 503);
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 2; }));
}

TEST_CASE("TLS: the same answers, streams and going away") {
  SelfSigned cert;
  http::HttpServerOptions options;
  options.tls_cert = cert.cert_file();
  options.tls_key = cert.key_file();
  RunningServer running({}, options);
  REQUIRE(running.status.ok());
  RawClient::Options tls;
  tls.tls = true;
  {
    RawClient client(running.port(), tls);
    REQUIRE(client.connected());
    client.Send(PostJson("/v1/chat/completions", kChatStream));
    CHECK(Said(Events(BodyOf(client.ReadAnswer()))) == "tok tok tok ");
    client.Send(PostJson("/v1/completions",
                         absl::StrCat(R"({"prompt":")", std::string(200'000, 'y'), R"("})")));
    CHECK(StatusOf(client.ReadAnswer()) == 200);
    client.Send("GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    CHECK(StatusOf(client.ReadAll()) == 200);
    CHECK(client.closed_by_server());
  }
  Script script;
  script.num_deltas = -1;
  script.interval_us = 1'000;
  running.generator.Set(script);
  {
    RawClient client(running.port(), tls);
    client.Send(PostJson("/v1/chat/completions", kChatStream));
    client.ReadUntil("tok");
  }
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  RawClient plain(running.port());
  plain.Send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
  plain.ReadAll();
  CHECK(plain.closed_by_server());
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->counters().connections == 0; }));
}

TEST_CASE("TLS files that do not fit are errors before anything listens") {
  SelfSigned cert, other;
  ScriptedGenerator generator;
  http::HttpServerOptions options;
  options.port = options.admin_port = 0;
  options.tls_cert = cert.cert_file();
  CHECK_FALSE(http::HttpServer(options, {}, &generator).Start().ok());
  options.tls_key = other.key_file();
  CHECK_FALSE(http::HttpServer(options, {}, &generator).Start().ok());
  options.tls_key = "/nonexistent";
  const absl::Status status = http::HttpServer(options, {}, &generator).Start();
  CHECK_FALSE(status.ok());
  CHECK(std::string(status.message()).find("tls-key: /nonexistent: ") == 0);
}

TEST_CASE("two hundred streams at once on two threads") {
  http::HttpServerOptions options;
  options.num_threads = 2;
  RunningServer running({}, options);
  Script script;
  script.num_deltas = 20;
  script.interval_us = 500;
  running.generator.Set(script);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<RawClient>(running.port()));
    clients.back()->Send(PostJson("/v1/chat/completions", kChatStream));
  }
  int whole = 0;
  for (auto& client : clients) whole += Said(Events(BodyOf(client->ReadAnswer()))).size() == 80;
  CHECK(whole == 200);
  CHECK(running.server->counters().cut_off_total == 0);
}

}  // namespace modu::testing
