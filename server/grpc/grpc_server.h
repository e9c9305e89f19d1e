// The gRPC door: modu.v1.Modu, grpc.health.v1 and reflection on one port, plain or TLS. gRPC's own
// threads run the reactors; one thread here wakes once a second for health and stalled readers.
// Start, Drain and Stop are the owner's.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/generation/generation_service.h"
#include "server/grpc/call_record.h"

namespace modu::grpc_door {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  int port = 8001;                // 0: any
  std::string tls_cert, tls_key;  // PEM files; both or none
};

/// Any of them may be empty. Must not block.
struct GrpcServerHooks {
  std::function<bool(std::string_view authorization)> allow_key;  // empty: no keys are configured
  // "" when it is well: health of engine.progress, and while not draining of "" and modu.v1.Modu
  std::function<std::string()> no_progress;
  OnCallEnd on_call_end;  // once for each call of modu.v1.Modu
};

class GrpcServer {
 public:
  GrpcServer(GrpcServerOptions options, GrpcServerHooks hooks, generation::Generator* generator);
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  /// kUnavailable: the port cannot be had. kInvalidArgument: TLS files.
  absl::Status Start();
  int port() const;
  int num_streams() const;
  int64_t cut_off_total() const;
  int64_t refused_total() const;  // connections, for want of descriptors

  /// Health goes, new calls get UNAVAILABLE; those that run go on.
  void BeginDrain();
  /// Health goes, new calls get UNAVAILABLE, streams finish until the deadline; what is left then
  /// ends with UNAVAILABLE, and GOAWAY goes out. True: all finished by themselves.
  bool Drain(std::chrono::milliseconds deadline);
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::grpc_door
