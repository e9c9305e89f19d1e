#include "kernels/cpu/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace modu::kernels::cpu {
namespace {

/// Reads "QUOTA PERIOD" in microseconds, as cpu.max has it ("max" for none).
int ParseQuota(std::istream& in) {
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota.empty() || quota == "max" || period <= 0) return 0;
  const double microseconds = std::strtod(quota.c_str(), nullptr);
  if (microseconds <= 0) return 0;
  return std::max(1, static_cast<int>(std::min(microseconds / period, 1e6)));
}

int Smaller(int limit, int other) {
  if (limit == 0) return other;
  return other == 0 ? limit : std::min(limit, other);
}

int LimitV2(const std::string& folder) {
  std::ifstream in(folder + "/cpu.max");
  return in ? ParseQuota(in) : 0;
}

int LimitV1(const std::string& folder) {
  std::ifstream quota(folder + "/cpu.cfs_quota_us"), period(folder + "/cpu.cfs_period_us");
  std::string q, p;
  if (!(quota >> q) || !(period >> p)) return 0;
  std::istringstream both(q + " " + p);
  return ParseQuota(both);
}

}  // namespace

int CgroupCpuLimit(const std::string& root) {
  int limit = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = line.compare(0, 3, "0::") == 0;
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string base = root + "/sys/fs/cgroup" + (v2 ? "" : "/cpu");
    // A parent's quota binds too; inside a container the mount's own root is the group.
    for (std::string path = line.substr(second + 1);;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      limit = Smaller(limit, v2 ? LimitV2(base + path) : LimitV1(base + path));
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return limit;
}

int AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof(set), &set) == 0
                  ? CPU_COUNT(&set)
                  : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, Smaller(CgroupCpuLimit(""), cores));
}

}  // namespace modu::kernels::cpu
