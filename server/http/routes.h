// The routes of the REST door. A handler reads the request, asks server/generation, and writes with
// server/api; it runs on an I/O thread, and a body too large to be parsed there in passing is
// parsed on a thread apart.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "server/generation/generation_service.h"
#include "server/http/router.h"

namespace modu::http {

/// One thread for bodies that take milliseconds to parse. The queue is bounded by the connections
/// there may be.
class BodyThreads {
 public:
  BodyThreads();
  ~BodyThreads();
  void Run(std::function<void()> work);
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct RouteContext {
  generation::Generator* generator = nullptr;
  BodyThreads* body_threads = nullptr;
  std::function<std::string()> not_ready;
  std::function<std::string()> scrape;
};

/// /v1/chat/completions, /v1/completions, /v1/models, tokenize, detokenize, render.
void AddApiRoutes(const RouteContext& context, Router* router);
/// /livez, /readyz, /health, /version.
void AddHealthRoutes(const RouteContext& context, Router* router);
/// /metrics.
void AddMetricsRoute(const RouteContext& context, Router* router);

/// Errors in OpenAI's shape, with Retry-After where it applies.
HttpResponse ErrorAnswer(const api::ApiError& error);

}  // namespace modu::http
