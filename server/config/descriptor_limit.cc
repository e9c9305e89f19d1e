#include "server/config/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <climits>

namespace modu::config {
namespace {

// For files, threads' wake-ups, the admin port, what gRPC opens as it goes.
constexpr int kReserved = 16, kReservedFromAdmin = 8;

int LimitLess(int reserved) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) return INT_MAX;
  return std::max(0, static_cast<int>(limit.rlim_cur) - reserved);
}

}  // namespace

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // where it may not be, the limit stays as it was
}

int FirstReservedDescriptor() { return LimitLess(kReserved); }

int FirstDescriptorClosedToAdmin() { return LimitLess(kReservedFromAdmin); }

}  // namespace modu::config
