// The paged cache: where elements lie, and that memory is taken only as it is used, but for the
// first of it.
#include "kernels/cpu/kv_cache.h"

#include <sys/mman.h>

#include <fstream>
#include <random>
#include <set>
#include <string>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "tests/catch.h"
#include "tests/kernels_attention/paged_sequence.h"

namespace modu::kernels::cpu {
namespace {

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

TEST_CASE("KV memory is reserved at once and resident only where it was touched") {
  const KvLayout layout{30, 3, 64, kKvBlockTokens, DType::kBF16};
  const int64_t before = ResidentBytes();
  CpuKvCache cache(layout, 8192);
  CHECK(cache.bytes() == 8192 * CpuKvBlockBytes(layout));
  CHECK(cache.bytes() > int64_t{5} << 30);
  CHECK(ResidentBytes() - before < 64 << 20);
  CHECK(reinterpret_cast<uintptr_t>(cache.Head(0, 0)) % (2 << 20) == 0);
  for (int block = 0; block < 4; ++block) {
    std::memset(cache.Head(0, 0) + block * cache.geometry().block_stride, 1,
                static_cast<size_t>(cache.geometry().block_stride));
  }
  CHECK(ResidentBytes() - before < 64 << 20);
}

bool IsResident(const std::byte* at) {
  const auto page = reinterpret_cast<uintptr_t>(at) / 4096 * 4096;
  unsigned char flags = 0;
  REQUIRE(mincore(reinterpret_cast<void*>(page), 4096, &flags) == 0);
  return (flags & 1) != 0;
}

TEST_CASE("a device's KV cache has the memory of what is used first from the start, and no more") {
  if (DetectIsa() < Isa::kAvx2) return;
  DeviceOptions options;
  options.num_threads = 2;
  const auto device = OpenCpuDevice(options).value();
  const KvLayout layout{30, 3, 64, kKvBlockTokens, DType::kBF16};
  const auto cache = device->CreateKvCache(layout, 8192);
  const std::byte* const first = static_cast<const CpuKvCache&>(*cache).Head(0, 0);
  for (const int64_t at : {0, 4096, (2 << 20) - 1}) CHECK(IsResident(first + at));  // at any pace
  constexpr int64_t kHugePage = 2 << 20;
  CHECK_FALSE(IsResident(first + CpuKvCache::kFirstBytes));
  CHECK_FALSE(IsResident(first + CpuKvCache::kFirstBytes + kHugePage));
  CHECK_FALSE(IsResident(first + cache->bytes() - 1));

  const auto small = device->CreateKvCache({2, 3, 64, kKvBlockTokens, DType::kBF16}, 2);
  const std::byte* const all = static_cast<const CpuKvCache&>(*small).Head(0, 0);
  CHECK(small->bytes() < kHugePage);
  for (int64_t at = 0; at < small->bytes(); at += 4096) CHECK(IsResident(all + at));
}

TEST_CASE("codes of a token and head take a byte each, and four for a scale") {
  for (const DType dtype : {DType::kI8, DType::kF8E4M3}) {
    CHECK(CpuKvBlockBytes({2, 3, 64, kKvBlockTokens, dtype}) == 2 * 3 * 32 * 2 * (64 + 4));
    CHECK(CpuKvBlockBytes({2, 3, 20, kKvBlockTokens, dtype}) == 2 * 3 * 32 * 2 * (32 + 4));
  }
}

TEST_CASE("every element of a block has a place of its own") {
  if (DetectIsa() < Isa::kAvx2) return;
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kI8, DType::kF8E4M3}) {
    for (const int head_dim : {16, 20, 64, 80}) {
      const KvLayout layout{2, 3, head_dim, kKvBlockTokens, dtype};
      CpuKvCache cache(layout, 2);
      const size_t element = static_cast<size_t>(TraitsOf(dtype).block_bytes);
      // Each append of one (layer, token) changes exactly 2 * heads * head_dim elements, none
      // twice; of codes also 2 * heads scales, in whole or in part.
      std::set<size_t> taken;
      std::mt19937 random(static_cast<uint32_t>(head_dim));
      const auto* bytes = reinterpret_cast<const unsigned char*>(cache.Head(0, 0));
      const size_t size = static_cast<size_t>(cache.geometry().block_stride);
      std::vector<unsigned char> before(size, 0);
      for (int layer = 0; layer < 2; ++layer) {
        for (int t = 0; t < kKvBlockTokens; ++t) {
          std::vector<float> row(static_cast<size_t>(3 * 3 * head_dim));
          for (float& x : row)
            x = 1.0f + static_cast<float>(random() % 1000) * 1e-3f;  // no code is 0
          QkvRow r{};
          r.row = row.data();
          r.num_heads = r.num_kv_heads = 3;
          r.head_dim = head_dim;
          r.q_scale = 1.0f;
          r.k = cache.Head(layer, 0);
          r.head_bytes = cache.geometry().head_bytes;
          r.half_bytes = cache.geometry().half_bytes;
          r.v_offset = cache.geometry().v_offset;
          r.offset = t;
          kRowKernelsAvx2.Qkv(dtype)(r);
          size_t changed = 0;
          for (size_t at = 0; at < size; at += element) {
            if (std::memcmp(before.data() + at, bytes + at, element) == 0) continue;
            ++changed;
            CHECK(taken.insert(at).second);
          }
          const auto elements = static_cast<size_t>(2 * 3 * head_dim);
          REQUIRE(changed >= elements + (IsKvCode(dtype) ? 6 : 0));
          REQUIRE(changed <= elements + 3 * static_cast<size_t>(KvScaleBytes(dtype)));
          std::memcpy(before.data(), bytes, size);
        }
      }
      const auto* after = bytes + size;  // nothing reached the next block
      for (size_t i = 0; i < size; ++i) REQUIRE(after[i] == 0);
    }
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
