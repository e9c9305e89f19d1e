#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <utility>
#include <variant>

#include "server/api/parse_request.h"
#include "server/api/response_json.h"
#include "server/http/generation_sinks.h"
#include "server/http/head_check.h"
#include "server/http/routes.h"
#include "server/telemetry/log.h"

namespace modu::http {
namespace {

using ExchangePtr = std::shared_ptr<Exchange>;

constexpr size_t kParseInPassingBytes = 64 << 10;

int64_t UnixNow() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Stops the generation if the client goes away. The exchange lets go of the call with the answer,
/// which ends the ring exchange, call, sink, exchange.
void CancelOnAbandon(const ExchangePtr& exchange,
                     const std::shared_ptr<generation::GenerationCall>& call) {
  exchange->SetOnAbandoned([call] { call->Cancel(); });
}

using GenerationParser = api::Parsed<api::GenerationRequest> (*)(std::string_view,
                                                                 const api::ServedModel&,
                                                                 const api::Limits&);

void Generate(generation::Generator* generator, const ExchangePtr& exchange, bool chat) {
  const GenerationParser parse = chat ? api::ParseChatRequest : api::ParseCompletionRequest;
  const std::string body = exchange->TakeBody();
  auto parsed = parse(body, generator->model(), generator->limits());
  if (const auto* error = std::get_if<api::ApiError>(&parsed)) {
    generator->CountRefused(*error);
    return exchange->Respond(ErrorAnswer(*error));
  }
  auto& request = std::get<api::GenerationRequest>(parsed);
  request.id = api::RandomId(chat ? "chatcmpl-" : "cmpl-");
  request.request_id = exchange->request().request_id;
  request.body_bytes = static_cast<int64_t>(body.size());
  api::AnswerHead head;
  head.id = request.id;
  head.created_unix_s = UnixNow();
  if (!generator->model().names.empty()) head.model = generator->model().names.front();
  auto sink = request.stream
                  ? MakeStreamSink(exchange, request, generator->limits(), std::move(head), chat)
                  : MakeAnswerSink(exchange, request, std::move(head), chat);
  if (request.stream) {
    exchange->SetFarewell([] {
      std::string event;
      api::ChunkWriter::Error(HttpError(503, "the server is shutting down", "shutting_down"),
                              &event);
      return event;
    });
  }
  CancelOnAbandon(exchange, generator->Start(std::move(request), std::move(sink)));
}

void RespondJson(const ExchangePtr& exchange, std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  exchange->Respond(std::move(response));
}

void Tokenize(generation::Generator* generator, const ExchangePtr& exchange) {
  const std::string body = exchange->TakeBody();
  const auto body_bytes = static_cast<int64_t>(body.size());
  auto parsed = api::ParseTokenizeRequest(body, generator->model(), generator->limits());
  if (const auto* error = std::get_if<api::ApiError>(&parsed))
    return exchange->Respond(ErrorAnswer(*error));
  auto& request = std::get<api::TokenizeRequest>(parsed);
  const bool with_strings = request.return_token_strs;
  generator->Render(std::move(request.prompt), body_bytes,
                    [=](std::optional<generation::RenderedPrompt> prompt, api::ApiError error) {
                      if (!prompt) return exchange->Respond(ErrorAnswer(error));
                      RespondJson(exchange, api::TokenizeJson(prompt->token_ids, generator->model(),
                                                              with_strings));
                    });
}

void Detokenize(generation::Generator* generator, const ExchangePtr& exchange) {
  const std::string body = exchange->TakeBody();
  const auto body_bytes = static_cast<int64_t>(body.size());
  auto parsed = api::ParseDetokenizeRequest(body, generator->model(), generator->limits());
  if (const auto* error = std::get_if<api::ApiError>(&parsed))
    return exchange->Respond(ErrorAnswer(*error));
  generator->Detokenize(std::move(std::get<api::DetokenizeRequest>(parsed).token_ids), body_bytes,
                        [=](std::optional<std::string> text, api::ApiError error) {
                          if (!text) return exchange->Respond(ErrorAnswer(error));
                          RespondJson(exchange, api::DetokenizeJson(*text));
                        });
}

void Render(generation::Generator* generator, const ExchangePtr& exchange) {
  const std::string body = exchange->TakeBody();
  const auto body_bytes = static_cast<int64_t>(body.size());
  auto parsed = api::ParseRenderRequest(body, generator->model(), generator->limits());
  if (const auto* error = std::get_if<api::ApiError>(&parsed))
    return exchange->Respond(ErrorAnswer(*error));
  generator->Render(
      std::move(std::get<api::ChatPrompt>(parsed)), body_bytes,
      [=](std::optional<generation::RenderedPrompt> prompt, api::ApiError error) {
        if (!prompt) return exchange->Respond(ErrorAnswer(error));
        RespondJson(exchange, api::RenderJson(prompt->text, prompt->token_ids, generator->model()));
      });
}

void GetModel(generation::Generator* generator, const ExchangePtr& exchange) {
  const std::string& name = exchange->request().path_rest;
  if (auto error = api::CheckModel(name, generator->model()))
    return exchange->Respond(ErrorAnswer(*error));
  RespondJson(exchange, api::ModelJson(generator->model(), name));
}

/// A library that throws, or memory that cannot be had, fails this request and no other.
std::function<void(const ExchangePtr&)> Guarded(std::function<void(const ExchangePtr&)> work) {
  return [work = std::move(work)](const ExchangePtr& exchange) {
    try {
      work(exchange);
    } catch (const std::exception& error) {
      telemetry::Log(telemetry::LogLevel::kError, "request_failed",
                     {{"request_id", std::string_view(exchange->request().request_id)},
                      {"what", std::string_view(error.what())}});
      exchange->Respond(ErrorAnswer(HttpError(500, "internal error", "internal_error")));
    }
  };
}

}  // namespace

HttpResponse ErrorAnswer(const api::ApiError& error) {
  HttpResponse response;
  response.status = error.http_status;
  response.body = api::ErrorJson(error);
  if (error.http_status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after_s > 0)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  return response;
}

void AddApiRoutes(const RouteContext& context, Router* router) {
  generation::Generator* const generator = context.generator;
  BodyThreads* const threads = context.body_threads;
  const auto post = [&](const char* pattern, std::function<void(const ExchangePtr&)> work,
                        std::function<void(const api::ApiError&)> on_refused = {}) {
    Route route;
    route.on_refused = std::move(on_refused);
    route.method = "POST";
    route.pattern = pattern;
    route.admits_work = true;
    route.handler = [threads, work = Guarded(std::move(work))](ExchangePtr exchange) {
      if (exchange->request().body.size() <= kParseInPassingBytes) return work(exchange);
      threads->Run([work, exchange] { work(exchange); });
    };
    router->Add(std::move(route));
  };
  const auto count = [=](const api::ApiError& error) { generator->CountRefused(error); };
  post(
      "/v1/chat/completions", [=](const ExchangePtr& e) { Generate(generator, e, /*chat=*/true); },
      count);
  post(
      "/v1/completions", [=](const ExchangePtr& e) { Generate(generator, e, /*chat=*/false); },
      count);
  post("/v1/chat/completions/render", [=](const ExchangePtr& e) { Render(generator, e); });
  post("/tokenize", [=](const ExchangePtr& e) { Tokenize(generator, e); });
  post("/detokenize", [=](const ExchangePtr& e) { Detokenize(generator, e); });

  Route models;
  models.pattern = "/v1/models";
  models.handler = [=](ExchangePtr e) { RespondJson(e, api::ModelListJson(generator->model())); };
  router->Add(models);
  Route model;
  model.pattern = "/v1/models/*";
  model.handler = [=](ExchangePtr e) { GetModel(generator, e); };
  router->Add(model);
}

}  // namespace modu::http
