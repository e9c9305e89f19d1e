// How the rows of a product are cut into blocks, for workers near to each other and far, and that
// no bit of a row depends on it.
#include "kernels/cpu/row_blocks.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/strip_units.h"
#include "tests/catch.h"
#include "tests/kernels_linear/feed_forward.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

std::unique_ptr<Device> Open(Numerics numerics, const std::string& level, bool far) {
  auto device = OpenCpuDevice({.numerics = numerics, .num_threads = 2, .isa = level}).value();
  for (int i = 0; i < 10 && far; ++i) Cpu(*device).worker_distance().Learn(13);
  REQUIRE(Cpu(*device).worker_distance().far() == far);
  Cpu(*device).pool().SetPatient(far);
  return device;
}

/// A weight of `strips` strips, which CutRows counts.
std::unique_ptr<PackedWeight> WeightOf(Device& device, DType dtype, int64_t strips, WeightUse use) {
  const tests::RandomMatrix matrix(dtype, strips * kStrip, 256, 1);
  const std::vector<WeightSource> parts(use == WeightUse::kGatedLinear ? 2 : 1, matrix.source());
  return device.Pack(parts, use).value();
}

TEST_CASE("rows are cut into as many blocks for each of two far workers") {
  const std::string level = GENERATE("avx2", "avx512bf16");
  if (!OpenCpuDevice({.num_threads = 1, .isa = level}).ok()) return;  // not on this machine
  const int most = level == "avx2" ? kBlockRows : kTileRows;
  const auto near = Open(Numerics::kInt8, level, false);
  const auto far = Open(Numerics::kInt8, level, true);
  const auto weight = WeightOf(*near, DType::kQ4_1, 16, WeightUse::kLinear);
  for (int tokens = 1; tokens <= 600; ++tokens) {
    INFO("tokens " << tokens);
    const RowBlocks whole = CutRows(Cpu(*near), Weight(weight.get()), tokens);
    const RowBlocks split = CutRows(Cpu(*far), Weight(weight.get()), tokens);
    REQUIRE(whole.rows <= most);
    REQUIRE(whole.rows % 4 == 0);
    REQUIRE(whole.sharers == 2);
    REQUIRE(whole.Count(tokens) >= (tokens + most - 1) / most);
    REQUIRE(whole.Count(tokens) <= (tokens + kBlockRows - 1) / kBlockRows);
    REQUIRE(split.rows > 0);
    REQUIRE(split.rows <= most);
    if (tokens < kFewestSplitRows) {
      REQUIRE(split.rows == whole.rows);
      REQUIRE(split.sharers == 2);
      continue;
    }
    REQUIRE(split.sharers == 1);
    REQUIRE(split.Count(tokens) % 2 == 0);
    REQUIRE(split.Count(tokens) <= whole.Count(tokens) + 1);
    // A worker's blocks are its half of the rows, but for what blocks of equal size leave.
    REQUIRE(std::abs(split.Count(tokens) / 2 * split.rows - tokens / 2) <= split.Count(tokens));
  }
}

TEST_CASE("blocks have as many rows as kernels like, if no worker is waited for much longer") {
  if (!OpenCpuDevice({.num_threads = 1, .isa = "avx512bf16"}).ok()) return;  // not on this machine
  const auto rows = [](int threads, DType dtype, int64_t strips, WeightUse use, int tokens) {
    const auto device = OpenCpuDevice({.num_threads = threads, .isa = "avx512bf16"}).value();
    const auto weight = WeightOf(*device, dtype, strips, use);
    return CutRows(Cpu(*device), Weight(weight.get()), tokens).rows;
  };
  constexpr WeightUse kLinear = WeightUse::kLinear, kGated = WeightUse::kGatedLinear;
  CHECK(rows(1, DType::kQ4_1, 4, kLinear, 256) == 128);
  CHECK(rows(1, DType::kQ4_1, 4, kLinear, 129) == 68);  // and 61
  CHECK(rows(1, DType::kQ4_1, 4, kLinear, 100) == 100);
  CHECK(rows(1, DType::kQ4_1, 4, kLinear, 3) == 4);
  CHECK(rows(1, DType::kQ4K, 32, kLinear, 256) == 128);
  CHECK(rows(1, DType::kBF16, 4, kLinear, 256) == 64);
  CHECK(rows(1, DType::kQ8_0, 4, kLinear, 256) == 64);  // makes nothing ready
  CHECK(rows(1, DType::kQ4_1, 3, kLinear, 128) == 64);  // three units are few
  CHECK(rows(4, DType::kQ4_1, 16, kLinear, 128) == 128);
  CHECK(rows(4, DType::kQ4_1, 18, kLinear, 128) == 64);  // five of 128 rows instead of nine of 64
  CHECK(rows(4, DType::kQ4_1, 16, kGated, 128) == 128);
  CHECK(rows(4, DType::kQ4_1, 18, kGated, 128) == 64);
  CHECK(rows(2, DType::kQ4_1, 18, kLinear, 128) == 128);
}

TEST_CASE("a row's bits do not depend on how far workers are from each other, nor on its block") {
  const std::string level = GENERATE("avx2", "avx512", "avx512bf16");
  const Numerics numerics = GENERATE(Numerics::kBf16, Numerics::kInt8);
  if (!OpenCpuDevice({.num_threads = 1, .isa = level}).ok()) return;  // not on this machine
  INFO(level << " numerics " << static_cast<int>(numerics));
  const tests::FeedForward block = {DType::kQ4_1, 192, 512, 300};
  const auto near = Open(numerics, level, false);
  const auto far = Open(numerics, level, true);
  // Few units for its workers: blocks of 64 rows at most.
  const auto many = OpenCpuDevice({.numerics = numerics, .num_threads = 7, .isa = level}).value();
  for (const int tokens : {1, 16, 48, 49, 64, 65, 96, 127, 128, 129, 200, 256, 257, 300}) {
    INFO("tokens " << tokens);
    const std::vector<float> a = Run(*near, block, tokens), b = Run(*far, block, tokens);
    REQUIRE(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
    const std::vector<float> c = Run(*many, block, tokens);
    REQUIRE(std::memcmp(a.data(), c.data(), a.size() * sizeof(float)) == 0);
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
