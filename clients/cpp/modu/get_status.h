// Whether a server is there: one GET, waited for.
#pragma once
#include <chrono>
#include <string>

#include "clients/cpp/modu/endpoint.h"

namespace modu::client {

struct StatusAnswer {
  int status = 0;   // 0: no HTTP answer
  std::string why;  // then why
};

/// Opens a connection of its own and blocks, at most for `timeout`; longer only where the system
/// takes longer to look up the host's name.
StatusAnswer GetStatus(const Endpoint& endpoint, const std::string& target,
                       std::chrono::milliseconds timeout);

}  // namespace modu::client
