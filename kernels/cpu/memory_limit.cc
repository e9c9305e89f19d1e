#include "kernels/cpu/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "kernels/cpu/cgroup.h"
#include "kernels/device.h"

namespace modu::kernels {
namespace cpu {
namespace {

/// v1 writes "no limit" as the largest multiple of a page.
constexpr int64_t kNoLimit = int64_t{1} << 62;

int64_t MachineBytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

}  // namespace

int64_t CgroupMemoryLimit(const std::string& root) {
  int64_t limit = 0;
  for (const CgroupFolder& folder : CgroupFolders(root, "memory")) {
    std::ifstream in(folder.path + (folder.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    int64_t bytes = 0;  // "max" does not parse
    if (!(in >> bytes) || bytes <= 0 || bytes >= kNoLimit) continue;
    limit = limit == 0 ? bytes : std::min(limit, bytes);
  }
  return limit;
}

}  // namespace cpu

int64_t MemoryLimitBytes() {
  const int64_t machine = cpu::MachineBytes(), group = cpu::CgroupMemoryLimit("");
  return group == 0 ? machine : std::min(machine, group);
}

}  // namespace modu::kernels
