// The thread count against trees of files as the kernel's cgroup interfaces write them.
#include "kernels/cpu/cores.h"

#include "tests/catch.h"
#include "tests/kernels_linear/fake_root.h"

namespace modu::kernels::cpu {
namespace {

using tests::FakeRoot;

}  // namespace

TEST_CASE("cgroup v2: the tightest quota on the way to the root binds") {
  FakeRoot root;
  root.Write("proc/self/cgroup", "0::/kubepods/pod1\n");
  CHECK(CgroupCpuLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/kubepods/pod1/cpu.max", "max 100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/kubepods/cpu.max", "350000 100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 3);
  root.Write("sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 1);
  root.Write("sys/fs/cgroup/kubepods/pod1/cpu.max", "20000 100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 1);
}

TEST_CASE("cgroup v2 in a container: the mount's root is the group") {
  FakeRoot root;
  root.Write("proc/self/cgroup", "0::/\n");
  root.Write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 2);
}

TEST_CASE("cgroup v1: quota and period of the cpu controller") {
  FakeRoot root;
  root.Write("proc/self/cgroup", "5:memory:/a\n3:cpu,cpuacct:/docker/x\n");
  root.Write("sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "-1\n");
  root.Write("sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n");
  CHECK(CgroupCpuLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "400000\n");
  CHECK(CgroupCpuLimit(root.path()) == 4);
}

TEST_CASE("files that are missing or make no sense mean no quota") {
  FakeRoot root;
  CHECK(CgroupCpuLimit(root.path()) == 0);
  root.Write("proc/self/cgroup", "nonsense\n0::\n::\n");
  root.Write("sys/fs/cgroup/cpu.max", "abc\n");
  CHECK(CgroupCpuLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/cpu.max", "100000 0\n");
  CHECK(CgroupCpuLimit(root.path()) == 0);
  CHECK(AvailableCores() >= 1);
}

}  // namespace modu::kernels::cpu
