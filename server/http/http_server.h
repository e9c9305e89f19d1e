// The REST door: a public listener and an admin listener (loopback unless told otherwise), served
// by a few I/O threads. Makes the routes, owns the threads. Start, Drain and Stop are the owner's
// to call, from one thread; everything it is given outlives it. No exception leaves; SIGPIPE is
// ignored from Start on.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/api/limits.h"
#include "server/generation/generation_service.h"
#include "server/http/site.h"

namespace modu::http {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: any
  std::string admin_host = "127.0.0.1";
  int admin_port = 8002;  // 0: any; -1: no admin listener
  int num_threads = 1;
  std::string tls_cert, tls_key;  // both or none; the admin listener speaks plain text
  std::vector<std::string> cors_origins;
  bool public_metrics = false;
};

/// What the door asks of the rest of the server; any of them may be empty. Called on I/O threads;
/// must not block.
struct HttpServerHooks {
  std::function<bool(std::string_view authorization)> allow_key;  // empty: no keys are configured
  std::function<std::string()> not_ready;                         // "" when ready, else why
  std::function<std::string()> scrape;                            // Prometheus text
  std::function<void(const AccessRecord&)> on_answer;
};

class HttpServer {
 public:
  HttpServer(HttpServerOptions options, HttpServerHooks hooks, generation::Generator* generator);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Binds and listens, then starts the threads. An error names the setting or the port.
  absl::Status Start();
  int port() const;
  int admin_port() const;

  /// From now on /readyz is 503, new work is refused, and answers close their connection.
  /// Idempotent.
  void BeginDrain();
  /// BeginDrain, then waits until every answer is complete. At the deadline what is left gets a
  /// last error event. True: all finished by themselves.
  bool Drain(std::chrono::milliseconds deadline);
  /// Closes everything at once and joins the threads.
  void Stop();

  const Counters& counters() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::http
