#include "server/cli/startup_text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "clients/cpp/modu/endpoint.h"
#include "server/cli/model_setup.h"
#include "server/store/progress_line.h"
#include "server/telemetry/log.h"

namespace modu::cli {
namespace {

using telemetry::Log;
using telemetry::LogLevel;

constexpr double kMib = 1 << 20;

bool Json(const config::Config& config) { return config.log_format == "json"; }

std::string Address(const std::string& host, int port) {
  return client::HostAndPort(host, std::to_string(port));
}

/// Where a client on this machine finds a door that listens on `host`: nobody can call "every
/// address".
std::string Reachable(const std::string& host) {
  in_addr ipv4{};
  in6_addr ipv6{};
  if (host == "*") return "127.0.0.1";
  if (inet_pton(AF_INET, host.c_str(), &ipv4) == 1 && ipv4.s_addr == INADDR_ANY) return "127.0.0.1";
  if (inet_pton(AF_INET6, host.c_str(), &ipv6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&ipv6)) return "::1";
  return host;
}

void LogServed(const ModelSetup& model, const BoundPorts& ports, double seconds) {
  for (const std::string& name : model.loaded.unused_tensors) {
    Log(LogLevel::kWarning, "unused tensor", {{"name", std::string_view(name)}});
  }
  Log(LogLevel::kInfo, "ready",
      {{"model", std::string_view(model.served.names.front())},
       {"format", std::string_view(model.loaded.format)},
       {"device", std::string_view(model.loaded.device)},
       {"weight_bytes", static_cast<int64_t>(model.loaded.weight_bytes)},
       {"kv_dtype", std::string_view(model.kv_dtype)},
       {"kv_bytes", static_cast<int64_t>(model.loaded.kv_bytes)},
       {"seconds", seconds},
       {"port", int64_t{ports.rest}},
       {"grpc_port", int64_t{ports.grpc}},
       {"admin_port", int64_t{ports.admin}}});
}

}  // namespace

void PrintSettings(const config::Config& config) {
  if (Json(config)) {
    for (const config::Config::Setting& setting : config.settings) {
      Log(LogLevel::kInfo, "setting",
          {{"name", std::string_view(setting.name)},
           {"value", std::string_view(setting.value)},
           {"source", std::string_view(setting.source)}});
    }
    return;
  }
  std::fputs("settings (value, source):\n", stderr);
  for (const config::Config::Setting& setting : config.settings) {
    std::fprintf(stderr, "  %-28s %-20s %s\n", setting.name.c_str(),
                 setting.value.empty() ? "-" : setting.value.c_str(), setting.source.c_str());
  }
}

std::function<void(int64_t done, int64_t total)> ShowProgress(const config::Config& config,
                                                              const std::string& doing) {
  if (Json(config)) return [](int64_t, int64_t) {};
  auto line = std::make_shared<store::ProgressLine>(STDERR_FILENO, doing);
  return [line = std::move(line)](int64_t done, int64_t total) { line->Update(done, total); };
}

void PrintRemark(const config::Config& config, const std::string& text) {
  if (Json(config)) return Log(LogLevel::kInfo, "model", {{"what", std::string_view(text)}});
  std::fprintf(stderr, "%s\n", text.c_str());
}

void PrintCannotStart(const config::Config& config, const absl::Status& why) {
  const std::string text(why.message());
  if (Json(config)) return Log(LogLevel::kError, "cannot start", {{"why", std::string_view(text)}});
  std::fprintf(stderr, "modu serve: %s\n", text.c_str());
}

void PrintDraining(const config::Config& config) {
  if (Json(config)) {
    return Log(LogLevel::kInfo, "draining", {{"at_most_s", int64_t{config.drain_s}}});
  }
  std::fprintf(stderr, "modu: draining, at most %d s; a second signal stops at once\n",
               config.drain_s);
}

void PrintServed(const config::Config& config, const ModelSetup& model, const BoundPorts& ports,
                 double seconds) {
  if (Json(config)) return LogServed(model, ports, seconds);
  const engine::LoadedModel& loaded = model.loaded;
  std::fprintf(
      stderr, "%s: %s, %s; weights %.0f MiB, KV in %s %.0f MiB reserved, buffers %.0f MiB\n",
      model.served.names.front().c_str(), loaded.format.c_str(), loaded.device.c_str(),
      static_cast<double>(loaded.weight_bytes) / kMib, model.kv_dtype.c_str(),
      static_cast<double>(loaded.kv_bytes) / kMib, static_cast<double>(loaded.buffer_bytes) / kMib);
  for (const std::string& name : loaded.unused_tensors) {
    std::fprintf(stderr, "warning: tensor %s is no part of this architecture and is not used\n",
                 name.c_str());
  }
  const std::string scheme = config.tls_cert.empty() ? "http://" : "https://";
  std::fprintf(stderr, "ready after %.2f s: REST %s%s", seconds, scheme.c_str(),
               Address(config.host, ports.rest).c_str());
  if (ports.grpc >= 0) {
    std::fprintf(stderr, ", gRPC %s", Address(config.host, ports.grpc).c_str());
  }
  if (ports.admin >= 0) {
    std::fprintf(stderr, ", metrics http://%s/metrics",
                 Address(config.admin_host, ports.admin).c_str());
  }
  std::fputs("\ntry:\n", stderr);
  const std::string url = scheme + Address(Reachable(config.host), ports.rest);
  // A shell may take an IPv6 address's brackets for a pattern.
  const char* quote = url.find('[') == url.npos ? "" : "'";
  const char* key = config.api_key_file.empty() ? "" : " -H 'Authorization: Bearer KEY'";
  if (model.served.chat_template != nullptr) {
    std::fprintf(stderr,
                 "  curl %s%s/v1/chat/completions%s%s -H 'Content-Type: application/json' \\\n"
                 "    -d '{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of "
                 "France?\"}]}'\n",
                 quote, url.c_str(), quote, key);
  } else {
    std::fprintf(stderr,
                 "  curl %s%s/v1/completions%s%s -H 'Content-Type: application/json' -d "
                 "'{\"prompt\":[1,2,3]}'\n",
                 quote, url.c_str(), quote, key);
  }
}

}  // namespace modu::cli
