#include "server/grpc/library_log.h"

#include <string>
#include <string_view>

#include "google/protobuf/message.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/version_info.h"
#include "server/telemetry/log.h"

#define MODU_PROTOBUF_LOGS (GOOGLE_PROTOBUF_VERSION < 4022000)
#define MODU_GRPC_LOGS (GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR < 66)
#if MODU_PROTOBUF_LOGS
#include "google/protobuf/stubs/logging.h"
#endif
#if MODU_GRPC_LOGS
#include "grpc/support/log.h"
#endif

namespace modu::grpc_door {
namespace {

void Say(const char* library, telemetry::LogLevel level, std::string_view text) {
  telemetry::Log(level, "library", {{"name", std::string_view(library)}, {"text", text}});
}

#if MODU_PROTOBUF_LOGS
// Warnings at most: what it calls an error is one client's message.
void OnProtobuf(google::protobuf::LogLevel level, const char*, int, const std::string& text) {
  if (level == google::protobuf::LOGLEVEL_FATAL)
    return Say("protobuf", telemetry::LogLevel::kError, text);
  Say("protobuf", telemetry::LogLevel::kWarning, text);
}
#endif

#if MODU_GRPC_LOGS
void OnGrpc(gpr_log_func_args* line) {
  if (line->severity == GPR_LOG_SEVERITY_DEBUG) return;
  Say("grpc",
      line->severity == GPR_LOG_SEVERITY_ERROR ? telemetry::LogLevel::kWarning
                                               : telemetry::LogLevel::kDebug,
      line->message);
}
#endif

}  // namespace

void TakeLibraryLogs() {
#if MODU_PROTOBUF_LOGS
  google::protobuf::SetLogHandler(OnProtobuf);
#endif
#if MODU_GRPC_LOGS
  gpr_set_log_function(OnGrpc);
#endif
}

}  // namespace modu::grpc_door
