// CPU seconds of this process, of the server (with its children) and of the whole machine, from
// /proc.
#pragma once
#include <sys/types.h>

namespace modu::benchmark {

struct CpuSeconds {
  double client = 0, server = 0, machine = 0;  // machine: everything but idle, iowait and steal
  double server_rss_mib = 0;  // summed over its processes: pages they share count for each
};

/// server_pid 0: unknown, server stays 0.
CpuSeconds ReadCpuSeconds(pid_t server_pid);

/// The process that listens on a loopback TCP port, not those that inherited the socket; or 0.
pid_t FindListener(int port);

}  // namespace modu::benchmark
