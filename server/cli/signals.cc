#include "server/cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
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

StartInterrupt::StartInterrupt() : over_(::eventfd(0, EFD_CLOEXEC)), thread_([this] { Watch(); }) {}

StartInterrupt::~StartInterrupt() {
  ::eventfd_write(over_, 1);
  thread_.join();
  ::close(over_);
}

void StartInterrupt::Watch() const {
  const sigset_t ends = EndSignals();
  const int came = ::signalfd(-1, &ends, SFD_CLOEXEC);
  pollfd events[] = {{over_, POLLIN, 0}, {came, POLLIN, 0}};
  while (::poll(events, 2, -1) < 0) {
  }
  signalfd_siginfo signal;
  if (events[1].revents != 0 && ::read(came, &signal, sizeof signal) == sizeof signal) {
    ::_exit(128 + static_cast<int>(signal.ssi_signo));
  }
  ::close(came);
}

}  // namespace modu::cli
