// Paged KV memory of the x86 backend and the place of every element in it.
// A block holds 32 tokens of all layers and KV heads: [layer][KV head][K | V]. One head's K is
// [2 halves of 16 tokens][D/2 pairs of dims][16 tokens][2], its V [D/16 groups of 16 dims][16 pairs
// of tokens][16 dims][2] (D rounded up to 16): in bf16 these are AMX B tiles, and each dword is a
// pair that AVX code splits with a shift and a mask. In float32 the pair is two rows of 16 instead,
// at twice the bytes. In 8 bits (kv_codes.h) a half of K is [D/4 quads of dims][16 tokens][4] codes
// and the 16 tokens' scales, V is [D/16 groups][8 quads of tokens][16 dims][4] codes, a quad's
// tokens in the order 0, 2, 1, 3, and the 32 tokens' scales; int8 codes are kept + 128, as
// products of unsigned bytes take them. The memory is
// reserved at once, and all but what is used first is written to on use (RSS grows with it); a
// fresh block holds whatever was there, so what a reader makes of a token that was not written
// never counts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/device.h"

namespace modu::kernels::cpu {

class WorkerPool;

constexpr int kKvBlockTokens = 32;

/// Strides of a cache group, in bytes.
struct KvGeometry {
  explicit KvGeometry(const KvLayout& layout);

  int padded_dim = 0;      // head_dim rounded up to 16
  int64_t half_bytes = 0;  // K of one head and 16 tokens, with its scales
  int64_t v_offset = 0;    // from a head's K to its V
  int64_t head_bytes = 0;  // K and V of one head
  int64_t layer_bytes = 0;
  int64_t block_stride = 0;
};

class CpuKvCache final : public KvCache {
 public:
  /// Of the blocks with the lowest numbers, which are used first, so many bytes have their memory
  /// from the start (as many as 60 ms allow) if there are `writers`. The system gives it when it is
  /// first written: 2 MiB in 0.2 ms, or in 6 in a guest whose host takes free memory back, and a
  /// fresh server's first steps would wait for it.
  static constexpr int64_t kFirstBytes = int64_t{64} << 20;

  /// Aborts when the address space cannot be reserved: the caller has checked the size.
  CpuKvCache(const KvLayout& layout, int64_t num_blocks, WorkerPool* writers = nullptr);
  ~CpuKvCache() override;
  CpuKvCache(const CpuKvCache&) = delete;
  CpuKvCache& operator=(const CpuKvCache&) = delete;

  const KvGeometry& geometry() const { return geometry_; }
  /// K of `head` in block 0; block b lies b * geometry().block_stride further.
  std::byte* Head(int layer, int head) const {
    return data_ + layer * geometry_.layer_bytes + head * geometry_.head_bytes;
  }

 private:
  void WriteFirst(WorkerPool& writers);

  KvGeometry geometry_;
  std::byte* data_ = nullptr;  // 2 MiB aligned
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
};

}  // namespace modu::kernels::cpu
