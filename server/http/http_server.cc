#include "server/http/http_server.h"

#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <future>
#include <thread>
#include <utility>

#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/post.hpp"
#include "server/config/descriptor_limit.h"
#include "server/http/connection_gate.h"
#include "server/http/listener.h"
#include "server/http/routes.h"
#include "server/http/tls.h"

namespace modu::http {
namespace {

namespace asio = boost::asio;
using WorkGuard = asio::executor_work_guard<asio::io_context::executor_type>;
using Millis = std::chrono::milliseconds;

constexpr int32_t kMaxAdminConnections = 64;
constexpr Millis kFarewellTime(1'000);

/// A library's exception ends the handler that met it, not the process.
void RunContext(asio::io_context* context) {
  for (;;) {
    try {
      context->run();
      return;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "http: a handler failed: %s\n", error.what());
    }
  }
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpServerOptions options_in, HttpServerHooks hooks_in, generation::Generator* generator_in)
      : options(std::move(options_in)),
        hooks(std::move(hooks_in)),
        generator(generator_in),
        gate(generator->limits().max_connections, generator->limits().max_connections_per_address,
             config::FirstReservedDescriptor()),
        admin_gate(kMaxAdminConnections, kMaxAdminConnections,
                   config::FirstDescriptorClosedToAdmin()) {
    site.limits = admin_site.limits = generator->limits();
    site.allow_key = hooks.allow_key;
    site.cors_origins = options.cors_origins;
    site.on_answer = hooks.on_answer;
    RouteContext context;
    context.generator = generator;
    context.body_threads = &body_threads;
    context.not_ready = [this] {
      if (site.draining) return std::string("draining");
      return hooks.not_ready ? hooks.not_ready() : std::string();
    };
    context.scrape = hooks.scrape;
    AddApiRoutes(context, &site.router);
    AddHealthRoutes(context, &site.router);
    if (options.public_metrics) AddMetricsRoute(context, &site.router);
    AddHealthRoutes(context, &admin_site.router);
    AddMetricsRoute(context, &admin_site.router);
  }

  const HttpServerOptions options;
  const HttpServerHooks hooks;
  generation::Generator* const generator;
  Site site, admin_site;  // outlive the sessions that the contexts below hold
  ConnectionGate gate, admin_gate;
  std::unique_ptr<asio::ssl::context> tls;
  BodyThreads body_threads;
  std::vector<std::unique_ptr<asio::io_context>> contexts;
  std::vector<WorkGuard> guards;
  std::unique_ptr<Listener> listener, admin_listener;
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(HttpServerOptions options, HttpServerHooks hooks,
                       generation::Generator* generator)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(hooks), generator)) {}

HttpServer::~HttpServer() { Stop(); }

absl::Status HttpServer::Start() {
  Impl& impl = *impl_;
  std::signal(SIGPIPE, SIG_IGN);
  if (impl.options.tls_cert.empty() != impl.options.tls_key.empty()) {
    return absl::InvalidArgumentError("tls-cert and tls-key go together");
  }
  if (!impl.options.tls_cert.empty()) {
    auto tls = MakeTlsContext(impl.options.tls_cert, impl.options.tls_key);
    if (!tls.ok()) return tls.status();
    impl.tls = *std::move(tls);
  }
  std::vector<asio::io_context*> contexts;
  for (int i = 0; i < std::max(1, impl.options.num_threads); ++i) {
    impl.contexts.push_back(std::make_unique<asio::io_context>(1));
    contexts.push_back(impl.contexts.back().get());
    impl.guards.push_back(asio::make_work_guard(*contexts.back()));
  }
  impl.listener = std::make_unique<Listener>(contexts, impl.tls.get(), &impl.site, &impl.gate);
  if (auto status = impl.listener->Bind(impl.options.host, impl.options.port); !status.ok())
    return status;
  if (impl.options.admin_port >= 0) {
    impl.admin_listener =
        std::make_unique<Listener>(contexts, nullptr, &impl.admin_site, &impl.admin_gate);
    auto status = impl.admin_listener->Bind(impl.options.admin_host, impl.options.admin_port);
    if (!status.ok()) return status;
    impl.admin_listener->Start();
  }
  impl.listener->Start();
  for (asio::io_context* context : contexts) {
    impl.threads.emplace_back(RunContext, context);
    pthread_setname_np(impl.threads.back().native_handle(), "modu-http");
  }
  return absl::OkStatus();
}

int HttpServer::port() const { return impl_->listener ? impl_->listener->port() : 0; }
int HttpServer::admin_port() const {
  return impl_->admin_listener ? impl_->admin_listener->port() : 0;
}
const Counters& HttpServer::counters() const { return impl_->site.counters; }

void HttpServer::BeginDrain() {
  impl_->site.draining = true;
  for (const auto& session : impl_->site.Sessions()) session->CloseIfIdle();
}

bool HttpServer::Drain(Millis deadline) {
  BeginDrain();
  const auto idle_by = [&](std::chrono::steady_clock::time_point end) {
    while (impl_->site.counters.exchanges > 0) {
      if (std::chrono::steady_clock::now() >= end) return false;
      std::this_thread::sleep_for(Millis(5));
    }
    return true;
  };
  if (idle_by(std::chrono::steady_clock::now() + deadline)) return true;
  for (const auto& session : impl_->site.Sessions()) session->Dismiss();
  idle_by(std::chrono::steady_clock::now() + kFarewellTime);
  return false;
}

void HttpServer::Stop() {
  Impl& impl = *impl_;
  if (impl.contexts.empty()) return;
  if (!impl.threads.empty()) {
    std::promise<void> closed;
    asio::post(*impl.contexts[0], [&] {
      impl.listener->Close();
      if (impl.admin_listener) impl.admin_listener->Close();
      closed.set_value();
    });
    closed.get_future().wait();
    for (Site* site : {&impl.site, &impl.admin_site}) {
      for (const auto& session : site->Sessions()) session->Abort();
    }
  }
  impl.body_threads.Stop();
  // The aborts are queued ahead of these: calls are cancelled before the threads end.
  for (auto& context : impl.contexts) asio::post(*context, [raw = context.get()] { raw->stop(); });
  for (std::thread& thread : impl.threads) thread.join();
  impl.threads.clear();
  impl.listener.reset();
  impl.admin_listener.reset();
  impl.guards.clear();
  impl.contexts.clear();
}

}  // namespace modu::http
