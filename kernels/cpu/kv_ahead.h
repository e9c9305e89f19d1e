// The KV that attention reads next, to be fetched to a nearer cache while products are made: these
// hardly read memory, and attention of single rows hardly does anything else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace modu::kernels::cpu {

class KvAhead {
 public:
  /// Lists what `next` (or null: nothing) reads, sequence by sequence, up to `most_bytes` and to
  /// what the cache that workers share may be expected to keep; for `calls` calls to fetch. One
  /// thread.
  void List(const AttentionParams* next, int64_t most_bytes, int calls);
  /// Call number `call`'s share: pieces of kFetchPiece bytes; nothing from `calls` on. Any thread,
  /// until the next List.
  std::span<const std::byte* const> Share(int call) const {
    if (call >= calls_) return {};
    const size_t first = At(call);
    return std::span(pieces_).subspan(first, At(call + 1) - first);
  }

 private:
  size_t At(int call) const {
    return pieces_.size() * static_cast<size_t>(call) / static_cast<size_t>(calls_);
  }

  std::vector<const std::byte*> pieces_;
  int calls_ = 1;
};

}  // namespace modu::kernels::cpu
