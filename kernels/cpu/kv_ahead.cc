#include "kernels/cpu/kv_ahead.h"

#include <algorithm>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu {
namespace {

/// Half of the 32 MB that cores of a Zen share: what a virtual machine is told of its cache is
/// often all of the host's.
constexpr int64_t kMostBytes = 16 << 20;

}  // namespace

void KvAhead::List(const AttentionParams* next, int64_t most_bytes, int calls) {
  pieces_.clear();
  calls_ = calls;
  if (next == nullptr) return;
  const auto most = static_cast<size_t>(std::min(most_bytes, kMostBytes) / kFetchPiece);
  const auto& kv = static_cast<const CpuKvCache&>(*next->kv);
  const KvGeometry& geometry = kv.geometry();
  const std::byte* const layer = kv.Head(next->layer, 0);
  const int64_t last_piece = std::max<int64_t>(0, geometry.layer_bytes - kFetchPiece);
  const int32_t* before = nullptr;  // of the last sequence, of whose blocks [first, end) are listed
  int first_before = 0, end_before = 0;
  for (int s = 0; s < next->num_seqs; ++s) {
    const int32_t* const blocks = next->block_table + int64_t{s} * next->block_table_stride;
    const int length = next->seq_lens[s];
    const int rows = next->cu_seqlens[s + 1] - next->cu_seqlens[s];
    const int first = FirstVisible(length - rows, next->window) / kKvBlockTokens;
    const int end = (length + kKvBlockTokens - 1) / kKvBlockTokens;
    int b = first;
    if (before != nullptr && first >= first_before) {  // what both begin with is there already
      while (b < std::min(end, end_before) && blocks[b] == before[b]) ++b;
    }
    for (; b < end; ++b) {
      const std::byte* const block = layer + blocks[b] * geometry.block_stride;
      for (int64_t at = 0; at < geometry.layer_bytes; at += kFetchPiece) {
        if (pieces_.size() == most) return;
        // The last one ends where the layer's ends.
        pieces_.push_back(block + std::min(at, last_piece));
      }
    }
    before = blocks;
    first_before = first;
    end_before = end;
  }
}

}  // namespace modu::kernels::cpu
