#include "server/cli/signals.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace modu::cli {
namespace {

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

sigset_t BlockSignals() {
  sigset_t signals = EndSignals();
  sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

int WaitForSignal(const sigset_t& signals, int64_t milliseconds) {
  const timespec timeout{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  return std::max(0, ::sigtimedwait(&signals, nullptr, &timeout));
}

StartInterrupt::StartInterrupt() : thread_([this] { Watch(); }) {}

StartInterrupt::~StartInterrupt() {
  started_ = true;
  thread_.join();
}

void StartInterrupt::Watch() {
  const sigset_t ends = EndSignals();
  while (!started_) {
    if (const int signal = WaitForSignal(ends, 20); signal != 0) ::_exit(128 + signal);
  }
}

}  // namespace modu::cli
