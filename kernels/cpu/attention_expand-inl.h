// Attention over KV in 8 bits (kernels/kv_codes.h) where products of codes are not taken as they
// lie: piece by piece K and V are written out as floats or bf16, which the kernels for those then
// read: a pass over what is seen, whatever the number of rows. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/vector_bf16-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Byte kByte of each dword as the number it codes, times its scale; `middle`: Middle(scale).
struct Int8Numbers {
  static MODU_INLINE Float Middle(Float scale) { return Mul(scale, Set(-128.0f)); }
  /// (code - 128) * scale, rounded once, as the middle is exact.
  template <int kByte>
  static MODU_INLINE Float Scaled(Int x, Float scale, Float middle) {
    Int code = ShiftDown<8 * kByte>(x);
    if constexpr (kByte < 3) code = And(code, 0xFF);
    return Fma(ToFloat(code), scale, middle);
  }
};
struct F8Numbers {
  static MODU_INLINE Float Middle(Float) { return Zero(); }
  template <int kByte>
  static MODU_INLINE Float Scaled(Int x, Float scale, Float) {
    return Mul(Of<kByte>(x), scale);
  }

  /// The exponent's bits as a float's are 2^120 too small. Of a subnormal code that would be a
  /// subnormal float, which workers read as zero, and the code counts multiples of 2^-9: as many as
  /// it does at the next larger codes, fewer than any code above them.
  template <int kByte>
  static MODU_INLINE Float Of(Int x) {
    const Int top = ShiftUp<24 - 8 * kByte>(x);
    const Int magnitude = And(top, 0x7F000000);
    const Float normal = Mul(AsFloat(ShiftDown<4>(magnitude)), Set(0x1p120f));
    const Float linear = Mul(ToFloat(ShiftDown<24>(magnitude)), Set(0x1p-9f));
    return AsFloat(OrBits(AsInt(Max(normal, linear)), And(top, INT32_MIN)));
  }
};

/// Where elements of two adjacent rows (dims of K, tokens of V) of 16 lanes go.
struct ToFloats {
  static constexpr int kElementBytes = 4;
  static MODU_INLINE void Pair(std::byte* to, const Group& first, const Group& second) {
    StoreGroup(reinterpret_cast<float*>(to), first);
    StoreGroup(reinterpret_cast<float*>(to) + 16, second);
  }
};
struct ToBf16Pairs {
  static constexpr int kElementBytes = 2;
  static MODU_INLINE void Pair(std::byte* to, const Group& first, const Group& second) {
    StorePairs(to, first, second);
  }
};

/// Blocks that are fetched ahead of the one in hand: few rows would wait for memory most of the
/// time.
constexpr int kBlocksAhead = 2;
MODU_INLINE void Fetch(const std::byte* p) { __builtin_prefetch(p, 0, 2); }

/// `ahead` is where as many bytes are fetched from meanwhile, here and below.
template <class Numbers, class To>
void ExpandKeys(const std::byte* half, const std::byte* ahead, int padded_dim, std::byte* to) {
  constexpr int kPairBytes = 32 * To::kElementBytes;
  Fetch(ahead + 16 * padded_dim);
  const Group scale = LoadGroup(reinterpret_cast<const float*>(half + 16 * padded_dim));
  Group middle;
  for (int p = 0; p < kParts; ++p) middle.part[p] = Numbers::Middle(scale.part[p]);
  for (int quad = 0; quad < padded_dim / 4; ++quad) {
    Fetch(ahead + quad * 64);
    Group dim[4];
    for (int p = 0; p < kParts; ++p) {
      const Int codes = LoadPairs(half + quad * 64 + p * kLanes * 4);
      const Float by = scale.part[p], from = middle.part[p];
      dim[0].part[p] = Numbers::template Scaled<0>(codes, by, from);
      dim[1].part[p] = Numbers::template Scaled<1>(codes, by, from);
      dim[2].part[p] = Numbers::template Scaled<2>(codes, by, from);
      dim[3].part[p] = Numbers::template Scaled<3>(codes, by, from);
    }
    To::Pair(to, dim[0], dim[1]);
    To::Pair(to + kPairBytes, dim[2], dim[3]);
    to += 2 * kPairBytes;
  }
}

template <class Numbers, class To>
void ExpandValues(const std::byte* v, const std::byte* ahead, int padded_dim, std::byte* to) {
  constexpr int kPairBytes = 32 * To::kElementBytes;
  Fetch(ahead + kKvBlockTokens * padded_dim);
  Fetch(ahead + kKvBlockTokens * padded_dim + 64);
  const auto* const scales = reinterpret_cast<const float*>(v + kKvBlockTokens * padded_dim);
  alignas(64) float middles[kKvBlockTokens];
  for (int i = 0; i < kKvBlockTokens; i += kLanes) {
    Store(middles + i, Numbers::Middle(Load(scales + i)));
  }
  for (int i = 0; i < padded_dim / 16 * (kKvBlockTokens / 4); ++i) {
    const int first = i % (kKvBlockTokens / 4) * 4;
    const float *const scale = scales + first, *const middle = middles + first;
    Fetch(ahead + i * 64);
    Group token[4];
    for (int p = 0; p < kParts; ++p) {
      const Int codes = LoadPairs(v + i * 64 + p * kLanes * 4);
      token[0].part[p] = Numbers::template Scaled<0>(codes, Set(scale[0]), Set(middle[0]));
      token[2].part[p] = Numbers::template Scaled<1>(codes, Set(scale[2]), Set(middle[2]));
      token[1].part[p] = Numbers::template Scaled<2>(codes, Set(scale[1]), Set(middle[1]));
      token[3].part[p] = Numbers::template Scaled<3>(codes, Set(scale[3]), Set(middle[3]));
    }
    To::Pair(to, token[0], token[1]);
    To::Pair(to + kPairBytes, token[2], token[3]);
    to += 2 * kPairBytes;
  }
}

/// The block that is read kBlocksAhead after `block`, of this item, whose last is `last`, or of the
/// worker's next.
const std::byte* BlockAhead(const AttentionItem& item, int block, int last) {
  const int ahead = block + kBlocksAhead;
  if (ahead <= last) return item.k + item.BlockOffset(ahead);
  const int next = ahead - last - 1;
  return next < item.next.count ? item.next.k + item.next.blocks[next] * item.block_stride
                                : item.k + item.BlockOffset(block);
}

/// kRun over what Numbers code, written out as To has it.
template <class Numbers, class To, AttentionFn kRun>
void RunExpanded(const AttentionItem& item) {
  constexpr int kBlocks = kPieceTokens / kKvBlockTokens;
  const int rows = item.num_tokens * item.group;
  const int64_t state_floats = StateFloats(item.padded_dim);
  float* const kv = item.scratch + PlainScratchFloats(rows, item.padded_dim);
  float* const own_states = kv + int64_t{2} * kPieceTokens * item.padded_dim;

  int32_t places[kBlocks];
  for (int i = 0; i < kBlocks; ++i) places[i] = i;
  AttentionItem wide = item;
  wide.k = reinterpret_cast<const std::byte*>(kv);
  wide.half_bytes = int64_t{16} * To::kElementBytes * item.padded_dim;
  wide.v_offset = 2 * wide.half_bytes;
  wide.block_stride = 2 * wide.v_offset;
  wide.block_table = places;
  wide.next = {};
  // From piece to piece rows keep their states, unless each piece leaves one of its own.
  if (item.partials == nullptr && item.states == nullptr) {
    wide.states = own_states;
    for (int r = 0; r < rows; ++r) own_states[r * state_floats + kHasPieces] = 0.0f;
  }
  const int first = FirstVisible(item.first_position, item.window) / kKvBlockTokens;
  const int seen = (item.first_position + item.num_tokens - 1) / kKvBlockTokens;
  const int end = item.piece_end * kBlocks;
  const int last = seen < end ? seen : end - 1;
  for (int piece = item.piece_begin; piece < item.piece_end; ++piece) {
    wide.first_block = piece * kBlocks;
    for (int i = 0; i < kBlocks; ++i) {
      const int block = wide.first_block + i;
      if (block < first || block > last) continue;
      const std::byte* const from = item.k + item.BlockOffset(block);
      const std::byte* const ahead = BlockAhead(item, block, last);
      auto* const to = reinterpret_cast<std::byte*>(kv) + i * wide.block_stride;
      ExpandKeys<Numbers, To>(from, ahead, item.padded_dim, to);
      ExpandKeys<Numbers, To>(from + item.half_bytes, ahead + item.half_bytes, item.padded_dim,
                              to + wide.half_bytes);
      ExpandValues<Numbers, To>(from + item.v_offset, ahead + item.v_offset, item.padded_dim,
                                to + wide.v_offset);
    }
    wide.piece_begin = piece;
    wide.piece_end = piece + 1;
    wide.out = piece + 1 == item.piece_end ? item.out : nullptr;
    if (item.partials != nullptr) {
      wide.partials = item.partials + int64_t{piece - item.piece_begin} * rows * state_floats;
    }
    kRun(wide);
    wide.packed = true;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
