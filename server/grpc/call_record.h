// What the gRPC door says of a call when it is over: one line of the access log, one sample of the
// request metrics. Holds no prompt and no key.
#pragma once
#include <chrono>
#include <functional>
#include <string>

#include "grpcpp/support/status.h"

namespace modu::grpc_door {

struct CallRecord {
  const char* method = "";  // "/modu.v1.Modu/Chat"
  std::string request_id;   // "": the call carries none
  grpc::StatusCode code = grpc::StatusCode::OK;
  double seconds = 0, write_seconds = 0;  // the latter: a write was under way
};

/// May be empty; must not block.
using OnCallEnd = std::function<void(const CallRecord&)>;

/// Measures one call from its making to End.
class CallTimer {
 public:
  CallTimer(const char* method, const OnCallEnd* on_end) : on_end_(on_end) {
    record.method = method;
  }
  void End() {
    if (!*on_end_) return;
    record.seconds = std::chrono::duration<double>(Clock::now() - began_).count();
    (*on_end_)(record);
  }

  CallRecord record;

 private:
  using Clock = std::chrono::steady_clock;
  const OnCallEnd* const on_end_;
  const Clock::time_point began_ = Clock::now();
};

}  // namespace modu::grpc_door
