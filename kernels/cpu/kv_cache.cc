#include "kernels/cpu/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <new>

#include "kernels/check.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/kv_codes.h"

namespace modu::kernels::cpu {
namespace {
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kPage = 4096;
// Equal strides modulo 64 KiB put the same line of every block into one L2 set (8 ways of 64 KiB on
// Zen 3): large blocks are spread by an odd number of pages.
constexpr int64_t kSpreadFrom = 32 * kPage;
constexpr std::chrono::milliseconds kFirstTime{60};  // for kFirstBytes
}  // namespace

KvGeometry::KvGeometry(const KvLayout& layout) {
  MODU_CHECK(layout.block_size == kKvBlockTokens);
  MODU_CHECK(layout.head_dim > 0 && layout.head_dim % 2 == 0);
  MODU_CHECK(layout.dtype == DType::kF32 || layout.dtype == DType::kBF16 || IsKvCode(layout.dtype));
  const int64_t scale_bytes = KvScaleBytes(layout.dtype) / 2;
  padded_dim = (layout.head_dim + 15) / 16 * 16;
  half_bytes = 16 * (RowBytes(layout.dtype, padded_dim) + scale_bytes);
  v_offset = 2 * half_bytes;
  head_bytes = 2 * v_offset;
  layer_bytes = layout.num_kv_heads * head_bytes;
  block_stride = layout.num_layers * layer_bytes;
  if (block_stride >= kSpreadFrom) {
    const int64_t pages = (block_stride + kPage - 1) / kPage;
    block_stride = (pages | 1) * kPage;
  }
}

int CpuKvBlockSize() { return kKvBlockTokens; }

int64_t CpuKvBlockBytes(const KvLayout& layout) { return KvGeometry(layout).block_stride; }

std::unique_ptr<KvCache> MakeCpuKvCache(const KvLayout& layout, int64_t num_blocks,
                                        WorkerPool& pool) {
  return std::make_unique<CpuKvCache>(layout, num_blocks, &pool);
}

CpuKvCache::CpuKvCache(const KvLayout& layout, int64_t num_blocks, WorkerPool* writers)
    : geometry_(layout) {
  layout_ = layout;
  num_blocks_ = num_blocks;
  bytes_ = num_blocks * geometry_.block_stride;
  mapping_bytes_ = static_cast<size_t>(bytes_ + kHugePage);
  mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
  madvise(data_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // a hint: without it only slower
  if (writers != nullptr) WriteFirst(*writers);
}

void CpuKvCache::WriteFirst(WorkerPool& writers) {
  const auto end = std::chrono::steady_clock::now() + kFirstTime;
  const int64_t bytes = std::min(bytes_, kFirstBytes);
  const auto units = static_cast<int>((bytes + kHugePage - 1) / kHugePage);
  writers.Run(units, 1, [&](int first, int last, int) {
    for (int64_t at = first * kHugePage; at < std::min(last * kHugePage, bytes); at += kPage) {
      const bool begins = at % kHugePage == 0 && at > 0;
      if (begins && std::chrono::steady_clock::now() > end) return;
      data_[at] = std::byte{0};
    }
  });
}

CpuKvCache::~CpuKvCache() { munmap(mapping_, mapping_bytes_); }

}  // namespace modu::kernels::cpu
