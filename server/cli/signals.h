// The signals that a server obeys, from its start to its drain.
#pragma once
#include <csignal>
#include <cstdint>
#include <thread>

namespace modu::cli {

/// SIGTERM, SIGINT and SIGHUP are taken by WaitForSignal only; set before any thread is made, so
/// that all inherit it. SIGPIPE is ignored.
sigset_t BlockSignals();

/// The signal that came within the time, or 0.
int WaitForSignal(const sigset_t& signals, int64_t milliseconds);

/// While it lives SIGTERM and SIGINT end the process at once, with 128 + their number: nothing is
/// served yet, and an interrupted fetch resumes. Must be gone before the first connection is
/// accepted. SIGHUP waits.
class StartInterrupt {
 public:
  StartInterrupt();
  ~StartInterrupt();
  StartInterrupt(const StartInterrupt&) = delete;
  StartInterrupt& operator=(const StartInterrupt&) = delete;

 private:
  void Watch() const;

  const int over_;  // an eventfd: the start is over
  std::thread thread_;
};

}  // namespace modu::cli
