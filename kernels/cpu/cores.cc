#include "kernels/cpu/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "kernels/cpu/cgroup.h"

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
  for (const CgroupFolder& folder : CgroupFolders(root, "cpu")) {
    limit = Smaller(limit, folder.v2 ? LimitV2(folder.path) : LimitV1(folder.path));
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
