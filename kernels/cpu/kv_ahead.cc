#include "kernels/cpu/kv_ahead.h"

#include <algorithm>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"

namespace modu::kernels::cpu {
namespace {

/// Half of the 32 MB that cores of a Zen share: what a virtual machine is told of its cache is
/// often all of the host's.
constexpr int64_t kMostBytes = 16 << 20;

}  // namespace

void KvAhead::List(const AttentionParams* next, int64_t most_bytes, int calls) {
  calls_ = calls;
  const auto most = static_cast<size_t>(std::min(most_bytes, kMostBytes) / kFetchPiece);
  Listed listed;
  if (next != nullptr) {
    layer_ = static_cast<const CpuKvCache&>(*next->kv).Head(next->layer, 0);
    listed = {next->step, next->kv, next->window, most};
    if (next->step != 0 && listed == listed_) return;
  }
  listed_ = listed;
  pieces_.clear();
  if (next != nullptr) ListBlocks(*next, most);
}

void KvAhead::ListBlocks(const AttentionParams& next, size_t most) {
  const KvGeometry& geometry = static_cast<const CpuKvCache&>(*next.kv).geometry();
  const int64_t last_piece = std::max<int64_t>(0, geometry.layer_bytes - kFetchPiece);
  const int32_t* before = nullptr;  // of the last sequence, of whose blocks [first, end) are listed
  int first_before = 0, end_before = 0;
  for (int s = 0; s < next.num_seqs; ++s) {
    const int32_t* const blocks = next.block_table + int64_t{s} * next.block_table_stride;
    const int length = next.seq_lens[s];
    const int rows = next.cu_seqlens[s + 1] - next.cu_seqlens[s];
    const int first = FirstVisible(length - rows, next.window) / kKvBlockTokens;
    const int end = (length + kKvBlockTokens - 1) / kKvBlockTokens;
    int b = first;
    if (before != nullptr && first >= first_before) {  // what both begin with is there already
      while (b < std::min(end, end_before) && blocks[b] == before[b]) ++b;
    }
    for (; b < end; ++b) {
      const int64_t block = blocks[b] * geometry.block_stride;
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
