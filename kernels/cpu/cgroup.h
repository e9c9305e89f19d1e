// Where the limits of this process's control group are written: cgroup v2 and v1, the group itself
// and its parents, whose limits bind too.
#pragma once
#include <string>
#include <vector>

namespace modu::kernels::cpu {

struct CgroupFolder {
  std::string path;
  bool v2;
};

/// Folders of `controller` ("cpu", "memory"), the innermost first; inside a container the mount's
/// own root is the group. `root` is the file system to read: "" for the machine's.
std::vector<CgroupFolder> CgroupFolders(const std::string& root, const std::string& controller);

}  // namespace modu::kernels::cpu
