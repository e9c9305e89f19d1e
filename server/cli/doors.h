// Both doors of a process, REST with its admin port and gRPC, tied to the keys, the readiness and
// the metrics. Open, drain and stop are the owner's to call, from one thread.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/config/config.h"
#include "server/generation/generation_service.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/telemetry/metrics.h"
#include "server/tenancy/key_file.h"

namespace modu::cli {

class Doors {
 public:
  /// What the doors open on; all of it outlives them.
  struct Dependencies {
    const config::Config* config;
    const tenancy::KeyFile* keys;
    telemetry::Metrics* metrics;
    generation::GenerationService* service;
    std::function<std::string()> not_ready;  // "" when the engine makes progress, else why
  };
  explicit Doors(const Dependencies& dependencies);

  /// Before a model is loaded for nothing. kInvalidArgument: a host that is no address, two doors
  /// on one port. kUnavailable: a port that cannot be had. Another process may still take it.
  static absl::Status CheckPorts(const config::Config& config);

  /// Also before: the certificate and its key can be read and belong together.
  static absl::Status CheckTls(const config::Config& config);

  absl::Status Open();
  void BeginDrain();
  /// No answer is under way. Any thread.
  bool Idle() const;
  /// Gives every answer that is left the time to reach its client. False: some were cut.
  bool Drain(std::chrono::milliseconds deadline);
  /// The REST door alone, for a process that cannot be taken down in order.
  void Abandon(std::chrono::milliseconds deadline);
  void Stop();

  int rest_port() const;
  int grpc_port() const;   // -1: none
  int admin_port() const;  // -1: none

 private:
  absl::Status OpenRest();
  absl::Status OpenGrpc();
  void CountRest();
  std::function<bool(std::string_view)> AllowKey() const;

  const Dependencies on_;
  std::unique_ptr<http::HttpServer> http_;
  std::unique_ptr<grpc_door::GrpcServer> grpc_;
};

}  // namespace modu::cli
