// What attention on tiles reads of a piece of 256 tokens, and what it fetches meanwhile. Included
// by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kDimsPerTile = 32;  // of A in scores
constexpr int64_t kScoreStrideBytes = kScoreStride * static_cast<int64_t>(sizeof(float));
constexpr int64_t kProbabilityStride = 2 * kPieceTokens + 64;  // an odd number of lines

/// K or V of blocks that are read later, fetched to L2 beside what is read, tile by tile or line by
/// line: the V of a piece during its scores, the next K during the sums over its V. On Zen 4,
/// fetched to L1 or one block ahead, memory is waited for (benchmarks/results).
class BlocksAhead {
 public:
  BlocksAhead() = default;
  /// `bytes` of each block at `base`, while `lines` lines are read.
  BlocksAhead(const std::byte* base, int64_t block_stride, int64_t bytes, const int32_t* blocks,
              int count, int lines)
      : base_(base),
        block_stride_(block_stride),
        bytes_(bytes),
        block_(blocks),
        end_(blocks + count),
        lines_per_line_(static_cast<int>((count * bytes + lines * kTileRowBytes - 1) /
                                         (lines * kTileRowBytes))) {}

  MODU_INLINE void FetchTile() { Fetch<kTileMaxRows>(); }
  /// As much of what is ahead as kLines lines of what is read are worth.
  template <int kLines>
  MODU_INLINE void Fetch() {
    for (int i = 0; i < lines_per_line_; ++i) {
      if (left_ <= 0) {
        if (block_ == end_) return;
        at_ = base_ + *block_++ * block_stride_;
        left_ = bytes_;
      }
#pragma GCC unroll 16
      for (int line = 0; line < kLines; ++line) {
        __builtin_prefetch(at_ + line * kTileRowBytes, 0, 2);
      }
      at_ += kLines * kTileRowBytes;
      left_ -= kLines * kTileRowBytes;
    }
  }

 private:
  const std::byte* base_ = nullptr;
  int64_t block_stride_ = 0, bytes_ = 0;
  const int32_t *block_ = nullptr, *end_ = nullptr;
  int lines_per_line_ = 0;  // fetched, for each that is read
  const std::byte* at_ = nullptr;
  int64_t left_ = 0;  // of the block in hand
};

/// What the rows of a step see of a piece: blocks [begin, end), and of them tokens [first, last).
struct SeenBlocks {
  int begin, end;
  int first, last;  // absolute positions
};

/// The V, value_bytes in a block, that is read once the scores of a piece are there; key_lines are
/// read of K in a block meanwhile.
BlocksAhead ValuesOf(const AttentionItem& item, const SeenBlocks& seen, int64_t value_bytes,
                     int key_lines) {
  const int count = seen.end - seen.begin;
  return {item.k + item.v_offset, item.block_stride, value_bytes, item.Blocks(seen.begin), count,
          count * key_lines};
}

/// The K that is read after a piece, of the next one or of the worker's next item, while of V
/// value_lines are read in a block.
BlocksAhead KeysAfter(const AttentionItem& item, int piece, const SeenBlocks& seen,
                      int value_lines) {
  NextBlocks next = item.next;
  if (piece + 1 < item.piece_end) {
    constexpr int kBlocks = kPieceTokens / kKvBlockTokens;
    const int last = (item.first_position + item.num_tokens - 1) / kKvBlockTokens;
    const int first = (piece + 1) * kBlocks;
    next = {item.k, item.Blocks(first), last - first < kBlocks ? last - first + 1 : kBlocks};
  }
  return {next.k,      item.block_stride, item.v_offset,
          next.blocks, next.count,        (seen.end - seen.begin) * value_lines};
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
