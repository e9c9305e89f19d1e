// What clients do that is odd but allowed, and what they do when they mean harm: methods,
// pipelines, half-closed connections, expectations, chunk trimmings, slow bodies, silent
// handshakes, bursts.
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"
#include "tests/http/self_signed.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {
namespace {

const std::string kHost = "Host: a\r\n";
const std::string kPost =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

std::string MessageOf(const std::string& answer) {
  const auto body = nlohmann::json::parse(BodyOf(answer), nullptr, false);
  return body.is_object() && body.contains("error") ? body["error"]["message"].get<std::string>()
                                                    : "";
}

}  // namespace

TEST_CASE("methods that a route does not have, or nobody has") {
  RunningServer running;
  const auto send = [&](const std::string& line) {
    RawClient client(running.port());
    client.Send(line + " HTTP/1.1\r\n" + kHost + "Connection: close\r\n\r\n");
    return client.ReadAll();
  };
  for (const char* line : {"BREW /livez", "get /livez", "PUT /v1/models", "DELETE /v1/models/x",
                           "PATCH /v1/chat/completions", "GET /v1/chat/completions",
                           "HEAD /v1/chat/completions", "PRI /livez"}) {
    INFO(line);
    const std::string answer = send(line);
    CHECK(StatusOf(answer) == 405);
    CHECK(HeaderOf(answer, "Allow").find("OPTIONS") != std::string::npos);
  }
  CHECK(StatusOf(send("BREW /nowhere")) == 404);
  for (const char* line : {"OPTIONS *", "OPTIONS /v1/models", "OPTIONS /nowhere"}) {
    INFO(line);
    const std::string answer = send(line);
    CHECK(StatusOf(answer) == 204);
    CHECK(BodyOf(answer).empty());
    CHECK(!HeaderOf(answer, "Allow").empty());
  }
  for (const char* path : {"/livez", "/v1/models", "/nowhere"}) {
    INFO(path);
    const std::string get = send(std::string("GET ") + path);
    const std::string head = send(std::string("HEAD ") + path);
    CHECK(StatusOf(head) == StatusOf(get));
    CHECK(HeaderOf(head, "Content-Length") == HeaderOf(get, "Content-Length"));
    CHECK(head.substr(head.find("\r\n\r\n") + 4).empty());
  }
}

TEST_CASE("a pipeline is answered in order, and ends at the first request that is none") {
  RunningServer running;
  RawClient client(running.port());
  std::string sent;
  for (int i = 0; i < 40; ++i) {
    sent += i % 2 == 0 ? "GET /livez HTTP/1.1\r\n" + kHost + "\r\n"
                       : PostJson("/v1/chat/completions", kChat);
  }
  client.Send(sent + "GET /livez HTTP/1.1\r\nHost : a\r\n\r\nGET /livez HTTP/1.1\r\n" + kHost +
              "\r\n");
  for (int i = 0; i < 40; ++i) {
    INFO(i);
    const std::string answer = client.ReadAnswer();
    CHECK(StatusOf(answer) == 200);
    CHECK((BodyOf(answer).find("alive") != std::string::npos) == (i % 2 == 0));
  }
  CHECK(StatusOf(client.ReadAnswer()) == 400);
  CHECK(client.ReadAll().empty());
  CHECK(running.generator.finished == 20);
}

TEST_CASE("more sent ahead than is read ahead waits, and is not lost") {
  RunningServer running;
  Script script;
  script.accept_after_ms = 200;
  running.generator.Set(script);
  RawClient client(running.port());
  std::string sent = PostJson("/v1/chat/completions", kChat);
  const std::string large = R"({"prompt":")" + std::string(100'000, 'y') + R"("})";
  for (int i = 0; i < 5; ++i) sent += PostJson("/v1/completions", large);
  std::thread writer([&] { client.Send(sent); });
  for (int i = 0; i < 6; ++i) CHECK(StatusOf(client.ReadAnswer()) == 200);
  writer.join();
}

TEST_CASE("a client that closes its sending side still gets what is quick") {
  RunningServer running;
  RawClient client(running.port());
  client.Send("GET /v1/models HTTP/1.1\r\n" + kHost + "\r\n");
  client.ShutdownSend();
  CHECK(StatusOf(client.ReadAll()) == 200);
  CHECK(client.closed_by_server());
  // A generation cannot tell it from a client that has gone: it is cancelled.
  Script script;
  script.num_deltas = -1;
  script.interval_us = 1'000;
  running.generator.Set(script);
  RawClient streaming(running.port());
  streaming.Send(PostJson("/v1/chat/completions", kChatStream));
  streaming.ReadUntil("tok");
  streaming.ShutdownSend();
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->counters().connections == 0; }));
}

TEST_CASE("HTTP/1.0 keeps a connection that asks for it, and has no chunks") {
  RunningServer running;
  RawClient client(running.port());
  client.Send("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string kept = client.ReadAnswer();
  CHECK(StatusOf(kept) == 200);
  CHECK(HeaderOf(kept, "Connection") == "keep-alive");
  client.Send("GET /livez HTTP/1.0\r\n\r\n");
  CHECK(StatusOf(client.ReadAll()) == 200);
  CHECK(client.closed_by_server());
  RawClient chunked(running.port());
  chunked.Send("POST /tokenize HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  CHECK(StatusOf(chunked.ReadAll()) == 400);
  RawClient expecting(running.port());  // RFC 9110 10.1.1: from a 1.0 client it is ignored
  expecting.Send(
      "POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nContent-Length: " +
      std::to_string(sizeof kChat - 1) + "\r\n\r\n" + kChat);
  CHECK(StatusOf(expecting.ReadAll()) == 200);
}

TEST_CASE("an expectation is met once the head is good, and not before") {
  http::HttpServerHooks hooks;
  hooks.allow_key = [](std::string_view given) { return given == "Bearer k"; };
  RunningServer running({}, {}, hooks);
  const std::string length = "Content-Length: " + std::to_string(sizeof kChat - 1) + "\r\n";
  const std::string key = "Authorization: Bearer k\r\n", expect = "Expect: 100-continue\r\n\r\n";
  const auto first = [&](const std::string& bytes) {
    RawClient client(running.port());
    client.Send(bytes);
    return StatusOf(client.ReadUntil("\r\n\r\n"));
  };
  CHECK(first(kPost + key + length + expect) == 100);
  CHECK(first(kPost + length + expect) == 401);
  CHECK(first(kPost + key + "Content-Length: 99999999\r\n" + expect) == 413);
  CHECK(first(kPost + key + "Content-Encoding: gzip\r\n" + length + expect) == 415);
  CHECK(first(kPost + key + length + expect + kChat) == 200);  // the body came along
  CHECK(first(kPost + key + "Transfer-Encoding: chunked\r\n" + expect) == 100);
}

TEST_CASE("chunk extensions and trailers are bounded and mean nothing") {
  api::Limits limits;
  limits.max_chunks = 100;
  RunningServer running(limits);
  const auto send = [&](const std::string& chunks) {
    RawClient client(running.port());
    client.Send(kPost + "Transfer-Encoding: chunked\r\n\r\n" + chunks);
    return client.ReadAnswer();
  };
  const std::string body(kChat);
  const std::string chunk = "40;a=\"b;c\";d\r\n" + body + "\r\n";
  CHECK(StatusOf(send(chunk + "0;last\r\n\r\n")) == 200);
  CHECK(StatusOf(send(chunk + "0\r\nX: y\r\nHost: b\r\n\r\n")) == 200);
  CHECK(StatusOf(send(chunk + "0\r\nContent-Length: 9\r\n\r\n")) == 400);
  CHECK(StatusOf(send("40;" + std::string(200'000, 'e') + "\r\n" + body + "\r\n0\r\n\r\n")) == 400);
  CHECK(StatusOf(send(chunk + "0\r\nX: " + std::string(200'000, 't') + "\r\n\r\n")) == 400);
  std::string single;
  for (char c : body) single += std::string("1\r\n") + c + "\r\n";
  CHECK(StatusOf(send(single + "0\r\n\r\n")) == 200);  // 64 chunks
  const std::string many = send(single + single + "0\r\n\r\n");
  CHECK(StatusOf(many) == 400);
  CHECK(MessageOf(many).find("100 chunks") != std::string::npos);
}

TEST_CASE("heads at their bounds pass, a byte more does not") {
  RunningServer running;
  const auto status = [&](const std::string& request) {
    RawClient client(running.port());
    client.Send(request);
    return StatusOf(client.ReadAnswer());
  };
  const std::string around = "GET /livez? HTTP/1.1";
  const auto line = [&](size_t bytes) {
    return "GET /livez?" + std::string(bytes - around.size(), 'q') + " HTTP/1.1\r\n" + kHost +
           "\r\n";
  };
  CHECK(status(line(8'192)) == 200);
  CHECK(status(line(8'193)) == 414);
  const auto header = [&](size_t bytes) {
    return "GET /livez HTTP/1.1\r\n" + kHost + "X: " + std::string(bytes - 3, 'x') + "\r\n\r\n";
  };
  CHECK(status(header(8'192)) == 200);
  CHECK(status(header(8'193)) == 431);
  const auto headers = [&](int count) {
    std::string request = "GET /livez HTTP/1.1\r\n" + kHost;
    for (int i = 1; i < count; ++i) request += "X" + std::to_string(i) + ": 1\r\n";
    return request + "\r\n";
  };
  CHECK(status(headers(100)) == 200);
  CHECK(status(headers(101)) == 431);
}

TEST_CASE("a body that drips is given up, one that is only slow is not") {
  api::Limits limits;
  limits.body_idle_ms = 300;
  RunningServer running(limits);
  RawClient dripping(running.port());
  dripping.Send(kPost + "Content-Length: 1000\r\n\r\n");
  bool open = true;
  for (int i = 0; i < 20 && open; ++i) {
    open = dripping.Send("x");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  CHECK(StatusOf(dripping.ReadAnswer()) == 408);
  // 1 KiB in 0.8 s is above the minimum rate, though longer than the idle time in all. A pause that
  // a busy machine made as long as the idle time says nothing: again.
  const std::string body = R"({"prompt":")" + std::string(2'000, 'y') + R"("})";
  int status = 0;
  for (int tries = 0; status != 200 && tries < 20; ++tries) {
    RawClient slow(running.port());
    slow.Send("POST /v1/completions HTTP/1.1\r\n" + kHost +
              "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n");
    auto longest = std::chrono::steady_clock::duration::zero();
    for (size_t at = 0; at < body.size(); at += 400) {
      const auto before = std::chrono::steady_clock::now();
      slow.Send(body.substr(at, 400));
      std::this_thread::sleep_for(std::chrono::milliseconds(120));
      longest = std::max(longest, std::chrono::steady_clock::now() - before);
    }
    status = StatusOf(slow.ReadAnswer());
    if (longest < std::chrono::milliseconds(limits.body_idle_ms)) break;
  }
  CHECK(status == 200);
}

TEST_CASE("TLS: a handshake that never comes, or is none, ends by itself") {
  SelfSigned cert;
  http::HttpServerOptions options;
  options.tls_cert = cert.cert_file();
  options.tls_key = cert.key_file();
  api::Limits limits;
  limits.header_deadline_ms = 2'500;  // the good one's too, on a busy machine
  RunningServer running(limits, options);
  REQUIRE(running.status.ok());
  RawClient silent(running.port()), plain(running.port()), half(running.port());
  plain.Send("GET /livez HTTP/1.1\r\n" + kHost + "\r\n");
  half.Send(
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));  // a ClientHello's start
  RawClient::Options tls;
  tls.tls = true;
  RawClient good(running.port(), tls);
  good.Send("GET /livez HTTP/1.1\r\n" + kHost + "\r\n");
  CHECK(StatusOf(good.ReadAnswer()) == 200);
  for (RawClient* client : {&silent, &plain, &half}) {
    client->ReadAll();
    CHECK(client->closed_by_server());
  }
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->counters().connections == 1; }));
}

TEST_CASE("a burst past the connections there may be: refusals, and the rest is served") {
  api::Limits limits;
  limits.max_connections_per_address = 50;
  RunningServer running(limits);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 120; ++i) {
    clients.push_back(std::make_unique<RawClient>(running.port()));
    clients.back()->Send(PostJson("/v1/chat/completions", kChat));
  }
  int served = 0, refused = 0;
  for (auto& client : clients) {
    const std::string answer = client->ReadAnswer();
    served += StatusOf(answer) == 200;
    refused += StatusOf(answer) == 503 && HeaderOf(answer, "Retry-After") == "1";
  }
  CHECK(served == 50);
  // A refused client that had sent already may see its connection reset before it reads.
  CHECK(refused <= 70);
  CHECK(running.server->counters().refused_total == 70);
  clients.clear();
  CHECK(ScriptedGenerator::Eventually([&] { return StatusOf(running.Get("/livez")) == 200; }));
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->counters().connections == 0; }));
}

}  // namespace modu::testing
