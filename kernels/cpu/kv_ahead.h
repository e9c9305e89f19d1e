// The KV that attention reads next, to be fetched to a nearer cache while products are made: these
// hardly read memory, and attention of single rows hardly does anything else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

class KvAhead {
 public:
  /// Lists what `next` (or null: nothing) reads, sequence by sequence, up to `most_bytes` and to
  /// what the cache that workers share may be expected to keep; for `calls` calls to fetch. Layers
  /// with the same batch (AttentionParams::step) are listed once. One thread.
  void List(const AttentionParams* next, int64_t most_bytes, int calls);
  /// Call number `call`'s share; nothing from `calls` on. Any thread, until the next List.
  FetchPieces Share(int call) const {
    if (call >= calls_) return {};
    const size_t first = At(call);
    return {layer_, std::span(pieces_).subspan(first, At(call + 1) - first)};
  }

 private:
  /// What the list depends on, but for the layer.
  struct Listed {
    uint64_t step = 0;
    const KvCache* kv = nullptr;
    int window = 0;
    size_t most = 0;
    bool operator==(const Listed&) const = default;
  };

  void ListBlocks(const AttentionParams& next, size_t most);
  size_t At(int call) const {
    return pieces_.size() * static_cast<size_t>(call) / static_cast<size_t>(calls_);
  }

  Listed listed_;
  const std::byte* layer_ = nullptr;
  std::vector<int64_t> pieces_;  // from the layer's beginning
  int calls_ = 1;
};

}  // namespace modu::kernels::cpu
