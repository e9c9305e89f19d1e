// The signals that a server obeys, from its start to its drain.
#pragma once
#include <atomic>
#include <csignal>
#include <cstdint>
#include <thread>

namespace modu::cli {

/// SIGTERM, SIGINT and SIGHUP are taken by WaitForSignal only; set before any thread is made, so
/// that all inherit it. SIGPIPE is ignored.
sigset_t BlockSignals();

/// The signal that came within the time, or 0.
int WaitForSignal(const sigset_t& signals, int64_t milliseconds);

/// While it lives SIGTERM and SIGINT end the process at once with 128 + their number: nothing is
/// served yet, and an interrupted fetch resumes. SIGHUP has nothing to reload and waits.
class StartInterrupt {
 public:
  StartInterrupt();
  ~StartInterrupt();
  StartInterrupt(const StartInterrupt&) = delete;
  StartInterrupt& operator=(const StartInterrupt&) = delete;

 private:
  void Watch();

  std::atomic<bool> started_ = false;
  std::thread thread_;
};

}  // namespace modu::cli
