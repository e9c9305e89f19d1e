#include <utility>

#include "absl/strings/str_cat.h"
#include "server/api/response_json.h"
#include "server/http/routes.h"

namespace modu::http {

void AddHealthRoutes(const RouteContext& context, Router* router) {
  const auto get = [&](const char* pattern, bool needs_key, Handler handler) {
    Route route;
    route.pattern = pattern;
    route.needs_key = needs_key;
    route.handler = std::move(handler);
    router->Add(std::move(route));
  };
  get("/livez", false, [](std::shared_ptr<Exchange> exchange) {
    HttpResponse response;
    response.body = R"({"status":"alive"})";
    exchange->Respond(std::move(response));
  });
  const Handler ready = [not_ready = context.not_ready](std::shared_ptr<Exchange> exchange) {
    const std::string reason = not_ready ? not_ready() : "";
    HttpResponse response;
    if (reason.empty()) {
      response.body = R"({"status":"ready"})";
    } else {
      response.status = 503;
      response.headers.emplace_back("Retry-After", "1");
      response.body = R"({"error":{"message":)";
      api::AppendJsonString(reason, &response.body);
      response.body += R"(,"type":"unavailable_error","param":null,"code":"not_ready"}})";
    }
    exchange->Respond(std::move(response));
  };
  get("/readyz", false, ready);
  get("/health", false, ready);
  get("/version", true, [](std::shared_ptr<Exchange> exchange) {
    HttpResponse response;
    response.body = absl::StrCat(R"({"version":")", MODU_VERSION, R"("})");
    exchange->Respond(std::move(response));
  });
}

void AddMetricsRoute(const RouteContext& context, Router* router) {
  Route route;
  route.pattern = "/metrics";
  route.handler = [scrape = context.scrape](std::shared_ptr<Exchange> exchange) {
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (scrape) response.body = scrape();
    exchange->Respond(std::move(response));
  };
  router->Add(std::move(route));
}

}  // namespace modu::http
