// What one instruction set offers for attention: a work item (query rows of one sequence that share
// a KV head, over a range of pieces), and the merge of pieces. Plain structs, no allocation, no
// threads: kernels/cpu/attention_ops.cc cuts the work and hands it out.
// A piece is 256 tokens at fixed absolute positions; its softmax is complete in itself (m, l, o),
// and pieces merge in rising order, whoever computed them. So the bits of a row depend on the row
// alone.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/prepared.h"
#include "kernels/kv_codes.h"

namespace modu::kernels::cpu {

constexpr int kMaxHeadDim = 1024;
constexpr int kMostBlockDims = 256;  // of heads whose rows are written as tiles at once

constexpr int kPieceTokens = 256;

/// Query rows of a unit of work: enough to pay for reading K and V, few enough that states stay in
/// L2.
constexpr int kUnitRows = 96;

/// What a piece leaves of a row: max score, sum of exp(score - max), and at kStateHeader the
/// weighted sum of V (padded_dim floats). The rest of a piece's header may be anything; tiles leave
/// the sum in all of it.
constexpr int kStateHeader = 16;
constexpr int kHasPieces = 2;  // of a running state's header: not 0 once a piece has gone in
constexpr int64_t StateFloats(int padded_dim) { return kStateHeader + padded_dim; }

/// Blocks whose K is read next, for fetching it early.
struct NextBlocks {
  const std::byte* k = nullptr;     // block 0 of the layer and head
  const int32_t* blocks = nullptr;  // [count]
  int count = 0;
};

/// Where rows of whole blocks of 16 tokens go as bf16 tiles (PreparedKind::kBf16Tiles), for kernels
/// that WriteBlocks.
struct OutBlocks {
  std::byte* at = nullptr;  // the first one's, at the first head; null: none
  int64_t block_bytes = 0;
  int begin = 0, end = 0;  // tokens of the item; the last block may have fewer than 16
};

struct AttentionItem {
  // Rows: row r is query head r % group of token r / group.
  const float* q;           // first token's first head of this KV head; scaled
  int64_t q_stride;         // floats from token to token
  const int32_t* q_tokens;  // [num_tokens] which tokens, counted from q; null: 0, 1, 2, ..
  int num_tokens;
  int group;           // query heads per KV head
  int first_position;  // of the first token
  int head_dim, padded_dim;
  int window;          // 0: none
  int value_span = 1;  // dims of V that are rotated together (kv_codes.h)
  // KV of this layer and head
  const std::byte* k;  // block 0
  int64_t half_bytes, v_offset, block_stride;
  const int32_t* block_table;  // of blocks from first_block on
  int first_block;
  int piece_begin, piece_end;
  NextBlocks next;  // what this worker probably reads after these: the first piece of it
  // Result: either final rows, or (partials not null) one state per piece and row,
  // at partials + ((piece - piece_begin) * rows + r) * StateFloats.
  float* out;  // as q: token stride out_stride, heads head_dim apart; null: states alone
  int64_t out_stride;
  OutBlocks blocks;  // instead, of whole blocks of tokens
  float* partials;
  // [rows] each row's state after the pieces before piece_begin (kHasPieces says whether
  // any), which this item goes on with and leaves; null: none before, none left.
  float* states;
  float* scratch;       // AttentionScratchFloats(), 64-byte aligned
  bool packed = false;  // its queries lie in scratch, from the item before, which had the same rows

  const int32_t* Blocks(int from) const { return block_table + (from - first_block); }
  /// From k to that block of the sequence, in bytes.
  int64_t BlockOffset(int block) const { return *Blocks(block) * block_stride; }
};

/// Floats of scratch an item of `rows` rows needs, whatever the kernel: scores (in two types) and
/// states of the rows that a kernel takes at once, two blocks of V in bf16, and each row's running
/// state and query; over KV in 8 bits also a piece of it in float32 and each row's state between
/// pieces.
constexpr int kMaxStepRows = 32;
constexpr int kScoreStride = kPieceTokens + 16;  // an odd number of lines: rows apart in L1 sets
constexpr size_t PlainScratchFloats(int rows, int padded_dim) {
  return static_cast<size_t>(kMaxStepRows * (2 * kScoreStride + StateFloats(padded_dim)) +
                             32 * padded_dim + rows * StateFloats(padded_dim) +
                             (rows + kMaxStepRows) * (padded_dim + 16));
}
constexpr size_t AttentionScratchFloats(DType kv, int rows, int padded_dim) {
  const size_t plain = PlainScratchFloats(rows, padded_dim);
  if (!IsKvCode(kv)) return plain;
  return plain +
         static_cast<size_t>(2 * kPieceTokens * padded_dim + rows * StateFloats(padded_dim));
}

/// Positions a row at `position` sees: [first, position].
constexpr int FirstVisible(int position, int window) {
  return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

struct MergeItem {
  const float* partials;  // of the row's first piece
  int64_t piece_stride;   // floats from piece to piece
  int num_pieces;         // that the row sees
  int head_dim, padded_dim;
  int value_span = 1;  // as of the items that left the partials
  float* out;          // [head_dim]
};

using AttentionFn = void (*)(const AttentionItem&);

/// How a batch may be cut into units.
struct UnitLimits {
  int rows = kUnitRows;     // of a unit at most
  int block_rows = 1;       // units begin with whole blocks of so many where they can
  bool writes_out = false;  // each writes out the codes that it sees, whatever its rows
  bool operator==(const UnitLimits&) const = default;
};

struct AttentionKernels {
  // By the type of the KV.
  AttentionFn run_f32, run_bf16, run_int8, run_fp8;
  void (*merge)(const MergeItem&);
  /// Over int8 codes as they lie, where run_int8 writes them out: for rows that int8 products
  /// follow, as a decode's in phased numerics, which are few and wait for KV. Null: run_int8 is for
  /// all.
  AttentionFn run_int8_as_it_lies = nullptr;
  /// run_int8 writes its codes out for the rows; run_fp8 always does.
  bool writes_int8_out = false;
  /// Rows of a unit over codes that are written out for them.
  int written_out_rows = kUnitRows;
  /// All but run_f32 and run_int8_as_it_lies take AttentionItem::blocks.
  bool writes_blocks = false;

  bool TakesCodes(DType kv, PreparedKind consumer) const {
    return kv == DType::kI8 && consumer == PreparedKind::kInt8 && run_int8_as_it_lies != nullptr;
  }
  /// For heads of whole tiles that are not too long for a worker's stack.
  bool WritesBlocks(DType kv, PreparedKind consumer, int head_dim) const {
    return writes_blocks && kv != DType::kF32 && consumer == PreparedKind::kBf16Tiles &&
           head_dim % kGroup == 0 && head_dim <= kMostBlockDims;
  }
  UnitLimits Units(DType kv, PreparedKind consumer, int head_dim) const {
    UnitLimits limits;
    if (WritesBlocks(kv, consumer, head_dim)) limits.block_rows = 16;
    const bool writes_out = kv == DType::kF8E4M3 || (kv == DType::kI8 && writes_int8_out);
    if (!writes_out || TakesCodes(kv, consumer)) return limits;
    limits.rows = written_out_rows;
    limits.writes_out = true;
    return limits;
  }
  AttentionFn Run(DType kv, PreparedKind consumer = PreparedKind::kF32) const {
    if (TakesCodes(kv, consumer)) return run_int8_as_it_lies;
    return kv == DType::kF32      ? run_f32
           : kv == DType::kI8     ? run_int8
           : kv == DType::kF8E4M3 ? run_fp8
                                  : run_bf16;
  }
};

extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;
/// By products of bf16, queries and probabilities rounded to it too: over bf16 KV as it lies, over
/// codes written out so, but int8 codes at level avx512bf16 (attention_int8-inl.h) and, of rows
/// that int8 products follow, at level amx (as kAttentionAvx512, which float32 KV goes by too).
AttentionKernels AttentionKernelsAvx512Bf16();
AttentionKernels AttentionKernelsAmx();

}  // namespace modu::kernels::cpu
