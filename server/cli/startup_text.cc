#include "server/cli/startup_text.h"

#include <cstdio>

namespace modu::cli {
namespace {

constexpr double kMib = 1 << 20;

}  // namespace

void PrintSettings(const config::Config& config) {
  std::fputs("settings (value, source):\n", stderr);
  for (const config::Config::Setting& setting : config.settings) {
    std::fprintf(stderr, "  %-28s %-20s %s\n", setting.name.c_str(),
                 setting.value.empty() ? "-" : setting.value.c_str(), setting.source.c_str());
  }
}

void PrintServed(const config::Config& config, const ModelSetup& model, int port, double seconds) {
  const engine::LoadedModel& loaded = model.loaded;
  std::fprintf(stderr, "%s: %s, %s; weights %.0f MiB, KV %.0f MiB reserved, buffers %.0f MiB\n",
               model.served.names.front().c_str(), loaded.format.c_str(), loaded.device.c_str(),
               static_cast<double>(loaded.weight_bytes) / kMib,
               static_cast<double>(loaded.kv_bytes) / kMib,
               static_cast<double>(loaded.buffer_bytes) / kMib);
  for (const std::string& name : loaded.unused_tensors) {
    std::fprintf(stderr, "warning: tensor %s is no part of this architecture and is not used\n",
                 name.c_str());
  }
  const char* scheme = config.tls_cert.empty() ? "http" : "https";
  std::fprintf(stderr, "ready after %.2f s: REST %s://%s:%d", seconds, scheme, config.host.c_str(),
               port);
  if (config.grpc_port >= 0)
    std::fprintf(stderr, ", gRPC %s:%d", config.host.c_str(), config.grpc_port);
  if (config.admin_port >= 0) {
    std::fprintf(stderr, ", metrics http://%s:%d/metrics", config.admin_host.c_str(),
                 config.admin_port);
  }
  std::fputs("\ntry:\n", stderr);
  const char* key = config.api_key_file.empty() ? "" : " -H 'Authorization: Bearer KEY'";
  if (model.served.chat_template != nullptr) {
    std::fprintf(stderr,
                 "  curl %s://%s:%d/v1/chat/completions%s -H 'Content-Type: application/json' \\\n"
                 "    -d '{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of "
                 "France?\"}]}'\n",
                 scheme, config.host.c_str(), port, key);
  } else {
    std::fprintf(stderr,
                 "  curl %s://%s:%d/v1/completions%s -H 'Content-Type: application/json' -d "
                 "'{\"prompt\":[1,2,3]}'\n",
                 scheme, config.host.c_str(), port, key);
  }
}

}  // namespace modu::cli
