// Weights and the memory that they may take: the limits that are read, and what happens past them.
#include <sys/resource.h>

#include <limits>
#include <string>

#include "kernels/cpu/memory_limit.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/weight_arena.h"
#include "tests/catch.h"
#include "tests/kernels_linear/fake_root.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::FakeRoot;
constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("memory limit: cgroup v2's tightest on the way to the root") {
  FakeRoot root;
  CHECK(CgroupMemoryLimit(root.path()) == 0);
  root.Write("proc/self/cgroup", "0::/kubepods/pod1\n");
  root.Write("sys/fs/cgroup/kubepods/pod1/memory.max", "max\n");
  CHECK(CgroupMemoryLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/kubepods/memory.max", "8589934592\n");
  CHECK(CgroupMemoryLimit(root.path()) == 8192 * kMiB);
  root.Write("sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n");
  CHECK(CgroupMemoryLimit(root.path()) == 1024 * kMiB);
  root.Write("sys/fs/cgroup/kubepods/pod1/memory.max", "nonsense\n");
  CHECK(CgroupMemoryLimit(root.path()) == 8192 * kMiB);
}

TEST_CASE("memory limit: cgroup v1, whose word for none is a huge number") {
  FakeRoot root;
  root.Write("proc/self/cgroup", "5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n");
  root.Write("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "9223372036854771712\n");
  CHECK(CgroupMemoryLimit(root.path()) == 0);
  root.Write("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "536870912\n");
  CHECK(CgroupMemoryLimit(root.path()) == 512 * kMiB);
}

TEST_CASE("this machine has some memory") {
  CHECK(MemoryLimitBytes() > 64 * kMiB);
  CHECK(MemoryLimitBytes() < (int64_t{1} << 50));
}

TEST_CASE("an arena gives zeroed memory up to its limit, then says what was needed") {
  WeightArena arena(100 * kMiB);
  const auto first = arena.Allocate(static_cast<size_t>(40 * kMiB + 1));
  REQUIRE(first.ok());
  for (size_t i = 0; i < static_cast<size_t>(40 * kMiB); i += 4096) {
    REQUIRE(first->data[i] == std::byte{0});
  }
  CHECK(reinterpret_cast<uintptr_t>(first->data) % 64 == 0);
  REQUIRE(arena.Allocate(static_cast<size_t>(40 * kMiB)).ok());
  const auto third = arena.Allocate(static_cast<size_t>(40 * kMiB));
  REQUIRE(!third.ok());
  CHECK(third.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(third.status().message() ==
        "weights: 81 MiB so far and 40 MiB for one more matrix exceed the limit of 100 MiB of "
        "memory");
  CHECK(arena.Allocate(1000).ok());  // what still fits is still given
  CHECK(!arena.Allocate(std::numeric_limits<size_t>::max()).ok());
  CHECK(!WeightArena(0).Allocate(1).ok());
}

TEST_CASE("what the system refuses is an error too") {
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = 1;  // nothing more may be mapped
  REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  WeightArena arena(int64_t{1} << 40);
  const auto piece = arena.Allocate(static_cast<size_t>(64 * kMiB));
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  REQUIRE(!piece.ok());
  CHECK(piece.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(std::string(piece.status().message()).find("64 MiB more are needed") != std::string::npos);
}

TEST_CASE("a matrix that does not fit is an error of packing, and the next one may fit") {
  WorkerPool pool(1);
  WeightArena arena(4 * kMiB);
  const tests::RandomMatrix large(DType::kF32, 2048, 1024, 1), small(DType::kQ8_0, 64, 64, 1);
  const WeightSource parts[] = {large.source()}, other[] = {small.source()};
  const auto weight = CpuWeight::Create(parts, WeightUse::kLinear, Numerics::kExact, pool, arena);
  REQUIRE(!weight.ok());
  CHECK(weight.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(CpuWeight::Create(other, WeightUse::kLinear, Numerics::kExact, pool, arena).ok());
}

TEST_CASE("a matrix knows what each worker reads of the next one first") {
  constexpr int kWorkers = 2;
  WorkerPool pool(kWorkers);
  WeightArena arena(64 * kMiB);
  const tests::RandomMatrix plain(DType::kQ4_1, 256, 64, 1), gate(DType::kQ4_1, 128, 64, 2),
      up(DType::kQ4_1, 128, 64, 3), last(DType::kQ8_0, 192, 64, 4);
  const WeightSource first[] = {plain.source()}, pair[] = {gate.source(), up.source()},
                     third[] = {last.source()};
  const auto pack = [&](std::span<const WeightSource> parts, WeightUse use) {
    return CpuWeight::Create(parts, use, Numerics::kInt8, pool, arena).value();
  };
  const auto a = pack(first, WeightUse::kLinear);
  const auto b = pack(pair, WeightUse::kGatedLinear);
  const auto c = pack(third, WeightUse::kHead);  // which keeps its exact scales besides
  for (int worker = 0; worker < kWorkers; ++worker) {
    const auto home = [&](int units) { return pool.HomeEnd(units, worker - 1); };
    const auto pairs = static_cast<int>(b->strips().size() / 2);
    CHECK(a->FollowingShare(worker, kWorkers).data ==
          b->strips()[static_cast<size_t>(2 * home(pairs))].data);
    const auto strips = static_cast<int>(c->strips().size());
    CHECK(b->FollowingShare(worker, kWorkers).data ==
          c->strips()[static_cast<size_t>(home(strips))].data);
    CHECK(c->FollowingShare(worker, kWorkers).bytes == 0);
  }
}

TEST_CASE("what follows a matrix is what rows of the same phase read next") {
  WeightArena arena(64 * kMiB);
  const auto piece = [&](std::optional<Phase> turn) { return arena.Allocate(1000, turn).value(); };
  const auto prompt = piece(Phase::kPrompt), generation = piece(Phase::kGeneration);
  const auto none = piece(std::nullopt);
  const auto next_prompt = piece(Phase::kPrompt), next_generation = piece(Phase::kGeneration);
  CHECK(prompt.next->data == next_prompt.data);
  CHECK(generation.next->data == next_generation.data);
  CHECK(none.next->data == nullptr);
  CHECK(next_prompt.next->data == nullptr);
  CHECK(next_generation.next->data == nullptr);
}

}  // namespace modu::kernels::cpu
