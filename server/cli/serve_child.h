// `modu serve` as a child of `modu chat`: started where no server answers, stopped when the chat
// ends.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "clients/cpp/modu/stream_call.h"

namespace modu::cli {

class ServeChild {
 public:
  ServeChild() = default;
  ~ServeChild();  // asks it to end, waits up to ten seconds, then ends it
  ServeChild(const ServeChild&) = delete;
  ServeChild& operator=(const ServeChild&) = delete;

  /// Runs `program serve ARGUMENTS` with its output in a log file and waits until it is ready to
  /// answer at `endpoint`. The child has its own process group, so that Ctrl-C reaches only the
  /// chat, and ends when the chat does, however.
  absl::Status Start(const std::string& program, const std::vector<std::string>& arguments,
                     const client::Endpoint& endpoint, const std::atomic<bool>& interrupted);

 private:
  pid_t pid_ = -1;
};

}  // namespace modu::cli
