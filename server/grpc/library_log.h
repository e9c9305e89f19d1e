// gRPC and Protobuf write lines of their own to stderr, which a client can cause (text that is not
// UTF-8, a broken handshake); these go through the server's log instead, in its format and with its
// escapes.
#pragma once

namespace modu::grpc_door {

/// Once, before the first server. Libraries that log through Abseil (Protobuf 22, gRPC 1.66 and
/// later) are left as they are.
void TakeLibraryLogs();

}  // namespace modu::grpc_door
