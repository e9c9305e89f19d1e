// Workers whose caches are far from each other: when that is believed, how rows are cut for them,
// and that no bit of a row depends on it.
#include "kernels/cpu/worker_distance.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/strip_products.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::Random;
using tests::RandomMatrix;

/// What workers 1, 2, .. of a pool are measured at, many times in a row.
int GroupsAfter(const std::vector<std::vector<double>>& measured) {
  WorkerDistance distance;
  for (const std::vector<double>& ns : measured) distance.Learn(ns);
  return distance.groups();
}

std::unique_ptr<Device> Open(Numerics numerics, const std::string& level, int threads, bool far) {
  auto device = OpenCpuDevice({.numerics = numerics, .num_threads = threads, .isa = level}).value();
  std::vector<double> ns(static_cast<size_t>(threads - 1), 2);
  for (size_t w = static_cast<size_t>(threads / 2); w <= ns.size(); ++w) ns[w - 1] = 13;
  for (int i = 0; i < 10 && far; ++i) Cpu(*device).worker_distance().Learn(ns);
  REQUIRE(Cpu(*device).worker_distance().groups() == (far ? 2 : 1));
  return device;
}

TEST_CASE("workers are far from each other when that was seen several times in a row") {
  const std::vector<double> near = {2.1}, far = {13.0};
  CHECK(GroupsAfter({}) == 1);
  CHECK(GroupsAfter({far, far}) == 1);
  CHECK(GroupsAfter({far, far, far, far, far}) == 2);
  CHECK(GroupsAfter({far, far, far, far, far, near}) == 1);
  CHECK(GroupsAfter({far, far, near, far, far, near, far, far}) == 1);
  CHECK(GroupsAfter({near, far, far, far, far}) == 2);
}

TEST_CASE("groups are the halves of the workers, or there are none") {
  const auto after = [](const std::vector<double>& ns) {
    return GroupsAfter({ns, ns, ns, ns, ns});
  };
  CHECK(after({2, 13, 13}) == 2);
  CHECK(after({13, 2, 13}) == 1);
  CHECK(after({13, 13, 13}) == 1);
  CHECK(after({2, 2, 13}) == 1);
  CHECK(after({2, 2, 2, 13, 13, 13, 13}) == 2);
  CHECK(after({2, 2, 2, 2, 2, 2, 2}) == 1);
}

TEST_CASE("measuring leaves the pool as it was") {
  for (const int threads : {1, 2, 3, 4}) {
    WorkerPool pool(threads);
    WorkerDistance distance;
    for (int i = 0; i < 200; ++i) {
      distance.Look(pool);
      std::atomic<int> ran{0};
      pool.Run(7, 1, [&](int first, int last, int) { ran += last - first; });
      REQUIRE(ran == 7);
    }
    if (threads % 2 != 0) CHECK(distance.groups() == 1);
  }
}

TEST_CASE("rows are cut into as many blocks for each group of workers") {
  const auto near = Open(Numerics::kInt8, "avx2", 4, false);
  const auto far = Open(Numerics::kInt8, "avx2", 4, true);
  for (int tokens = 1; tokens <= 600; ++tokens) {
    INFO("tokens " << tokens);
    const RowBlocks whole = CutRows(Cpu(*near), tokens), split = CutRows(Cpu(*far), tokens);
    REQUIRE(whole.rows == kTileRows);
    REQUIRE(whole.sharers == 4);
    REQUIRE(split.rows > 0);
    REQUIRE(split.rows <= kTileRows);
    if (tokens < kFewestSplitRows) {
      REQUIRE(split.rows == kTileRows);
      continue;
    }
    REQUIRE(split.sharers == 2);
    REQUIRE(split.Count(tokens) % 2 == 0);
    REQUIRE(split.Count(tokens) <= whole.Count(tokens) + 1);
    // A group's blocks are its half of the rows, but for what blocks of equal size leave.
    REQUIRE(std::abs(split.Count(tokens) / 2 * split.rows - tokens / 2) <= split.Count(tokens));
  }
}

TEST_CASE("a row's bits do not depend on how far workers are from each other") {
  const std::string level = GENERATE("avx2", "avx512", "avx512bf16");
  const Numerics numerics = GENERATE(Numerics::kBf16, Numerics::kInt8);
  if (!OpenCpuDevice({.num_threads = 1, .isa = level}).ok()) return;  // not on this machine
  INFO(level << " numerics " << static_cast<int>(numerics));
  constexpr int64_t kInputs = 192, kWidth = 160, kOutputs = 71;
  const RandomMatrix gate(DType::kQ4_1, kWidth, kInputs, 1), up(DType::kQ4_1, kWidth, kInputs, 2);
  const RandomMatrix down(DType::kQ4_1, kOutputs, kWidth, 3);
  const WeightSource pair[] = {gate.source(), up.source()};
  const WeightSource next[] = {down.source()};
  Random random(4);
  std::vector<float> rows(static_cast<size_t>(200 * kInputs));
  for (float& x : rows) x = random.Gaussian();
  const auto run = [&](Device& device, int tokens) {
    const auto gated = device.Pack(pair, WeightUse::kGatedLinear).value();
    const auto last = device.Pack(next, WeightUse::kLinear).value();
    const auto in = device.Allocate(device.PreparedBytes(*gated, tokens));
    const auto middle = device.Allocate(device.PreparedBytes(*last, tokens));
    std::vector<float> out(static_cast<size_t>(tokens * kOutputs));
    device.ops().norm(device, {.num_tokens = tokens,
                               .width = kInputs,
                               .hidden = rows.data(),
                               .rows = nullptr,
                               .weight = nullptr,
                               .eps = 0,
                               .consumer = gated.get(),
                               .out = {in->data()}});
    device.ops().gated_linear(device, {.num_tokens = tokens,
                                       .in = {in->data()},
                                       .weight = gated.get(),
                                       .activation = Activation::kSilu,
                                       .consumer = last.get(),
                                       .out = {middle->data()}});
    device.ops().linear(
        device, {tokens, {middle->data()}, last.get(), nullptr, false, out.data(), kOutputs});
    return out;
  };
  for (const int threads : {2, 4}) {
    const auto near = Open(numerics, level, threads, false);
    const auto far = Open(numerics, level, threads, true);
    for (const int tokens : {1, 7, 8, 9, 16, 25, 64, 65, 96, 129, 200}) {
      INFO("threads " << threads << " tokens " << tokens);
      const std::vector<float> a = run(*near, tokens), b = run(*far, tokens);
      REQUIRE(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
    }
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
