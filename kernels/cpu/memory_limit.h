// What control groups say of memory; kernels/device.h has the limit that follows.
#pragma once
#include <cstdint>
#include <string>

namespace modu::kernels::cpu {

/// Bytes of the tightest cgroup limit, v2 (memory.max) or v1 (memory.limit_in_bytes), also of the
/// parents; 0 where there is none. `root` is the file system to read: "" for the machine's.
int64_t CgroupMemoryLimit(const std::string& root);

}  // namespace modu::kernels::cpu
