// Tokens whose K or V was not finite. Whoever wrote them made the first dims of their K NaN, or all
// of it (kv_append-inl.h), and rows that see them are to come out as NaN, others not. Powers by
// whole numbers (attention_powers-inl.h) take a score of NaN for one far below, so such tokens are
// looked for in K, a block at a time, which costs two instructions for 16 tokens of all rows.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_powers-inl.h"
#include "kernels/cpu/attention_rows-inl.h"
#include "kernels/cpu/int8_lanes-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

class SpoiltTokens {
 public:
  /// Of a piece's blocks that any row of the item sees, by the first dim of bf16 K.
  void Find(const AttentionItem& item, int piece) {
    const int first = FirstVisible(item.first_position, item.window) / kKvBlockTokens;
    const int last = (item.first_position + item.num_tokens - 1) / kKvBlockTokens;
    const int begin = piece * kBlocks > first ? piece * kBlocks : first;
    const int end = (piece + 1) * kBlocks <= last ? (piece + 1) * kBlocks : last + 1;
    Group zero_or_nan = SetGroup(0.0f);
    for (int block = begin; block < end; ++block) {
      const std::byte* const k = item.k + item.BlockOffset(block);
      for (const std::byte* half : {k, k + item.half_bytes}) {
        for (int p = 0; p < kParts; ++p) {
          const Float pairs = Load(reinterpret_cast<const float*>(half) + p * kLanes);
          zero_or_nan.part[p] = Add(zero_or_nan.part[p], Mul(FirstOfPairs(pairs), Zero()));
        }
      }
    }
    const float sum = Sum(zero_or_nan);
    any_ = sum != sum;
    if (!any_) return;
    for (uint32_t& bits : of_block_) bits = 0;
    for (int block = begin; block < end; ++block) {
      of_block_[block % kBlocks] = NotNumbers(item.k + item.BlockOffset(block), item.half_bytes);
    }
  }

  /// Makes NaN of the powers of those that the row sees.
  MODU_INLINE void Mark(const ScoredRow& row, std::byte* powers) const {
    if (any_) MarkEach(row, powers);
  }

 private:
  static constexpr int kBlocks = kPieceTokens / kKvBlockTokens;

  /// The lower halves of dwords as floats.
  static MODU_INLINE Float FirstOfPairs(Float pairs) { return AsFloat(ShiftUp<16>(AsInt(pairs))); }

  static uint32_t NotNumbers(const std::byte* k, int64_t half_bytes) {
    uint32_t bits = 0;
    for (int t = 0; t < kKvBlockTokens; ++t) {
      uint16_t first;
      __builtin_memcpy(&first, k + t / 16 * half_bytes + t % 16 * 4, sizeof(first));
      if ((first & 0x7FFF) > 0x7F80) bits |= 1u << t;
    }
    return bits;
  }
  void MarkEach(const ScoredRow& row, std::byte* powers) const {
    constexpr uint16_t kNan = 0x7FC0;
    for (int i = row.begin; i < row.end; i += kKvBlockTokens) {
      const uint32_t bits = of_block_[i / kKvBlockTokens] & TokenBits(row.first - i, row.last - i);
      for (int t = 0; t < kKvBlockTokens; ++t) {
        if ((bits >> t & 1) != 0) __builtin_memcpy(powers + 2 * (i + t), &kNan, sizeof(kNan));
      }
    }
  }

  bool any_ = false;
  uint32_t of_block_[kBlocks];  // of the piece, a bit a token; if there are any
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
