// How many threads this process may keep busy: its CPU set, and its cgroup's quota where one is
// set.
#pragma once
#include <string>

namespace modu::kernels::cpu {

/// CPUs of a quota, at least 1; 0 where there is none. `root` is the file system to read ("/").
/// Looks at cgroup v2 (cpu.max, also of the parents) and v1 (cpu.cfs_quota_us).
int CgroupCpuLimit(const std::string& root);

/// The smaller of the scheduler's CPU set and the quota (rounded down: a thread more would be
/// throttled), at least 1.
int AvailableCores();

}  // namespace modu::kernels::cpu
