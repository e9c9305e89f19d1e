#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/catch.h"
#include "tests/http/server_fixture.h"

namespace modu::testing {
namespace {

using nlohmann::json;

json ErrorOf(const std::string& answer) {
  const json body = json::parse(BodyOf(answer), nullptr, false);
  REQUIRE(body.is_object());
  REQUIRE(body.contains("error"));
  const json& error = body["error"];
  for (const char* name : {"message", "type", "param", "code"}) REQUIRE(error.contains(name));
  return error;
}

}  // namespace

TEST_CASE("a chat is answered whole") {
  RunningServer running;
  REQUIRE(running.status.ok());
  const std::string answer = running.Post("/v1/chat/completions", kChat);
  REQUIRE(StatusOf(answer) == 200);
  CHECK(HeaderOf(answer, "Content-Type") == "application/json");
  const json body = json::parse(BodyOf(answer));
  CHECK(body["object"] == "chat.completion");
  CHECK(body["model"] == "scripted");
  CHECK(body["choices"][0]["message"]["content"] == "tok tok tok ");
  CHECK(body["choices"][0]["finish_reason"] == "length");
  CHECK(body["usage"]["prompt_tokens"] == 3);
  CHECK(body["usage"]["completion_tokens"] == 3);
  CHECK(running.generator.last_request().request_id == HeaderOf(answer, "X-Request-Id"));
}

TEST_CASE("completions take lists of prompts and n") {
  RunningServer running;
  const json body =
      json::parse(BodyOf(running.Post("/v1/completions", R"({"prompt":["a","b"],"n":2})")));
  CHECK(body["object"] == "text_completion");
  CHECK(body["choices"].size() == 4);
}

TEST_CASE("models, tokenizing, rendering, health and version") {
  RunningServer running;
  const json models = json::parse(BodyOf(running.Get("/v1/models")));
  CHECK(models["data"][0]["id"] == "scripted");
  CHECK(StatusOf(running.Get("/v1/models/scripted")) == 200);
  CHECK(json::parse(BodyOf(running.Get("/v1/models/org/alias")))["id"] == "org/alias");
  CHECK(json::parse(BodyOf(running.Get("/v1/models/org%2Falias")))["id"] == "org/alias");
  CHECK(StatusOf(running.Get("/v1/models/none")) == 404);
  CHECK(json::parse(BodyOf(running.Post("/tokenize", R"({"prompt":"AB"})")))["tokens"] ==
        json({65, 66}));
  CHECK(json::parse(BodyOf(running.Post("/detokenize", R"({"tokens":[65,66]})")))["prompt"] ==
        "AB");
  CHECK(StatusOf(running.Post("/v1/chat/completions/render", kChat)) == 200);
  for (const char* path : {"/livez", "/readyz", "/health", "/version"}) {
    INFO(path);
    CHECK(StatusOf(running.Get(path)) == 200);
  }
  CHECK(StatusOf(running.Get("/metrics")) == 404);
}

TEST_CASE("readiness says why not") {
  http::HttpServerHooks hooks;
  hooks.not_ready = [] { return std::string("loading the model"); };
  RunningServer running({}, {}, hooks);
  const std::string answer = running.Get("/readyz");
  CHECK(StatusOf(answer) == 503);
  CHECK(ErrorOf(answer)["message"] == "loading the model");
  CHECK(StatusOf(running.Get("/livez")) == 200);
}

TEST_CASE("the admin listener has metrics, and no chat") {
  http::HttpServerHooks hooks;
  hooks.scrape = [] { return std::string("modu_up 1\n"); };
  http::HttpServerOptions options;
  options.public_metrics = GENERATE(false, true);
  RunningServer running({}, options, hooks);
  RawClient admin(running.server->admin_port());
  admin.Send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string answer = admin.ReadAnswer();
  CHECK(BodyOf(answer) == "modu_up 1\n");
  CHECK(HeaderOf(answer, "Content-Type").starts_with("text/plain; version=0.0.4"));
  admin.Send(PostJson("/v1/chat/completions", kChat));
  CHECK(StatusOf(admin.ReadAnswer()) == 404);
  CHECK(StatusOf(running.Get("/metrics")) == (options.public_metrics ? 200 : 404));
}

TEST_CASE("errors have OpenAI's shape and name the field") {
  RunningServer running;
  const std::string answer = running.Post(
      "/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"temperature":9})");
  CHECK(StatusOf(answer) == 400);
  CHECK(ErrorOf(answer)["param"] == "temperature");
  CHECK(StatusOf(running.Post("/v1/chat/completions", "nonsense")) == 400);
  CHECK(StatusOf(running.Get("/none")) == 404);
  ErrorOf(running.Get("/none"));
  const std::string wrong_method = running.Get("/v1/chat/completions");
  CHECK(StatusOf(wrong_method) == 405);
  CHECK(HeaderOf(wrong_method, "Allow") == "POST, OPTIONS");
}

TEST_CASE("a refusal before the stream begins is a status with Retry-After") {
  RunningServer running;
  Script script;
  script.refuse = api::ApiError{503, "the queue is full", "unavailable_error", "", "queue_full", 7};
  running.generator.Set(script);
  for (const char* body : {kChat, kChatStream}) {
    const std::string answer = running.Post("/v1/chat/completions", body);
    CHECK(StatusOf(answer) == 503);
    CHECK(HeaderOf(answer, "Retry-After") == "7");
    CHECK(ErrorOf(answer)["code"] == "queue_full");
  }
}

TEST_CASE("with keys set every route but liveness, readiness and health needs one") {
  http::HttpServerHooks hooks;
  hooks.allow_key = [](std::string_view authorization) { return authorization == "Bearer right"; };
  RunningServer running({}, {}, hooks);
  for (const char* path :
       {"/v1/models", "/version", "/v1/models/scripted", "/none", "/invocations"}) {
    INFO(path);
    const std::string answer = running.Get(path);
    CHECK(StatusOf(answer) == 401);
    CHECK(HeaderOf(answer, "WWW-Authenticate") == "Bearer");
    CHECK(ErrorOf(answer)["type"] == "authentication_error");
    CHECK(StatusOf(running.Get(path, "Authorization: Bearer wrong\r\n")) == 401);
  }
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize",
                           "/v1/chat/completions/render"}) {
    INFO(path);
    CHECK(StatusOf(running.Post(path, kChat)) == 401);
  }
  for (const char* path : {"/livez", "/readyz", "/health"})
    CHECK(StatusOf(running.Get(path)) == 200);
  CHECK(StatusOf(running.Get("/v1/models", "Authorization: Bearer right\r\n")) == 200);
  CHECK(StatusOf(running.Get("/none", "Authorization: Bearer right\r\n")) == 404);
  CHECK(StatusOf(running.Post("/v1/chat/completions", kChat, "Authorization: Bearer right\r\n")) ==
        200);
  CHECK(StatusOf(running.Get("/v1/models",
                             "Authorization: Bearer right\r\nAuthorization: Bearer right\r\n")) ==
        400);
  CHECK(running.generator.started == 1);
  // Of these only the two generations are counted as such.
  CHECK(running.generator.refused_statuses() == std::vector<int>{401, 401});
}

TEST_CASE("a generation refused before its handler is counted, and logged with its route") {
  std::mutex mutex;
  std::vector<std::string> logged;
  http::HttpServerHooks hooks;
  hooks.on_answer = [&](const http::AccessRecord& record) {
    std::lock_guard lock(mutex);
    logged.push_back(absl::StrCat(record.route, " ", record.status));
  };
  api::Limits limits;
  limits.max_body_bytes = 1000;
  {
    RunningServer running(limits, {}, hooks);
    running.Post("/v1/completions", std::string(1001, ' '));
    running.Get("/v1/completions");  // no generation: another method
    RawClient typed(running.port()), cut(running.port()), after(running.port());
    typed.Send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    typed.ReadAnswer();
    cut.Send(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n");
    cut.ReadAnswer();
    // What follows a refusal on the same connection is a request of its own.
    after.Send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    after.ReadAnswer();
    after.Send("GET / HTTP/1.1\r\nbad\r\n\r\n");
    after.ReadAnswer();
    CHECK(running.generator.refused_statuses() == std::vector<int>{413, 415, 400, 415});
  }
  std::ranges::sort(logged);
  CHECK(logged == std::vector<std::string>{" 400", " 405", "/v1/completions 400",
                                           "/v1/completions 413", "/v1/completions 415",
                                           "/v1/completions 415"});
}

TEST_CASE("CORS only for configured origins") {
  http::HttpServerOptions options;
  options.cors_origins = {"https://app.example"};
  http::HttpServerHooks hooks;
  hooks.allow_key = [](std::string_view authorization) { return authorization == "Bearer right"; };
  RunningServer running({}, options, hooks);
  RawClient client(running.port());
  client.Send(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  const std::string preflight = client.ReadAnswer();
  CHECK(StatusOf(preflight) == 204);
  CHECK(HeaderOf(preflight, "Access-Control-Allow-Origin") == "https://app.example");
  CHECK(HeaderOf(preflight, "Access-Control-Allow-Methods") == "POST, OPTIONS");
  CHECK(HeaderOf(preflight, "Access-Control-Allow-Headers").find("Authorization") !=
        std::string::npos);
  const auto allowed = [&](const std::string& asked) {
    client.Send(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n"
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: " +
        asked + "\r\n\r\n");
    return HeaderOf(client.ReadAnswer(), "Access-Control-Allow-Headers");
  };
  CHECK(allowed("authorization, x-stainless-os") == "authorization, x-stainless-os");
  CHECK(allowed("a;b") == "Authorization, Content-Type, X-Request-Id");
  CHECK(allowed(std::string(2000, 'a')) == "Authorization, Content-Type, X-Request-Id");
  client.Send(PostJson("/v1/chat/completions", kChat,
                       "Origin: https://app.example\r\nAuthorization: Bearer right\r\n"));
  CHECK(HeaderOf(client.ReadAnswer(), "Access-Control-Allow-Origin") == "https://app.example");
  CHECK(HeaderOf(running.Get("/livez", "Origin: https://evil.example\r\n"),
                 "Access-Control-Allow-Origin")
            .empty());
}

TEST_CASE("HEAD answers without a body, request ids are echoed or made") {
  RunningServer running;
  RawClient client(running.port());
  client.Send("HEAD /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc-123\r\n\r\n");
  const std::string head = client.ReadUntil("\r\n\r\n");
  CHECK(StatusOf(head) == 200);
  CHECK(HeaderOf(head, "X-Request-Id") == "abc-123");
  CHECK(head.ends_with("\r\n\r\n"));
  CHECK(HeaderOf(running.Get("/livez"), "X-Request-Id").starts_with("req-"));
  CHECK(HeaderOf(running.Get("/livez", "X-Request-Id: \"<script>\r\n"), "X-Request-Id")
            .starts_with("req-"));
}

TEST_CASE("nothing of a request shows in the answer to the next") {
  RunningServer running;
  RawClient client(running.port());
  client.Send("HEAD /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: first\r\n\r\n");
  CHECK(HeaderOf(client.ReadUntil("\r\n\r\n"), "X-Request-Id") == "first");
  client.Send(
      absl::StrCat("GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: ", std::string(100'000, 'x')));
  const std::string answer = client.ReadUntil("\"error\"");
  CHECK(StatusOf(answer) == 431);
  CHECK(HeaderOf(answer, "X-Request-Id").starts_with("req-"));
  CHECK(answer.find("\"error\"") != answer.npos);  // a body, though the request before was HEAD
}

TEST_CASE("a large body is parsed apart and answered the same") {
  RunningServer running;
  const std::string text(300'000, 'x');
  CHECK(StatusOf(running.Post("/v1/completions", R"({"prompt":")" + text + R"("})")) == 200);
}

TEST_CASE("pipelined requests are answered in order") {
  RunningServer running;
  RawClient client(running.port());
  client.Send(PostJson("/v1/chat/completions", kChat) + "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" +
              "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(BodyOf(client.ReadAnswer()).find("chat.completion") != std::string::npos);
  CHECK(BodyOf(client.ReadAnswer()).find("alive") != std::string::npos);
  CHECK(StatusOf(client.ReadAnswer()) == 404);
}

TEST_CASE("a busy port is an error that names it") {
  RunningServer running;
  http::HttpServerOptions options;
  options.port = running.port();
  options.admin_port = -1;
  ScriptedGenerator generator;
  http::HttpServer second(options, {}, &generator);
  const absl::Status status = second.Start();
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(status.message()).find(std::to_string(running.port())) != std::string::npos);
}

}  // namespace modu::testing
