// A running server over a scripted generator, on any free ports.
#pragma once
#include <memory>
#include <string>

#include "server/http/http_server.h"
#include "tests/http/raw_client.h"
#include "tests/http/scripted_generator.h"

namespace modu::testing {

struct RunningServer {
  explicit RunningServer(api::Limits limits = {}, http::HttpServerOptions options = {},
                         http::HttpServerHooks hooks = {})
      : generator(limits) {
    options.port = options.admin_port = 0;
    server = std::make_unique<http::HttpServer>(options, hooks, &generator);
    status = server->Start();
  }
  ~RunningServer() { server->Stop(); }
  int port() const { return server->port(); }

  std::string Get(const std::string& path, const std::string& headers = "") const {
    RawClient client(port());
    client.Send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
    return client.ReadAnswer();
  }
  std::string Post(const std::string& path, const std::string& body,
                   const std::string& headers = "") const {
    RawClient client(port());
    client.Send(PostJson(path, body, headers));
    return client.ReadAnswer();
  }

  ScriptedGenerator generator;
  std::unique_ptr<http::HttpServer> server;
  absl::Status status;
};

inline constexpr char kChat[] =
    R"({"model":"scripted","messages":[{"role":"user","content":"hi"}]})";
inline constexpr char kChatStream[] =
    R"({"model":"scripted","messages":[{"role":"user","content":"hi"}],"stream":true})";

}  // namespace modu::testing
