// Products of bf16 activations (kBf16Pairs) with weights of any format, rounded to bf16, by dot
// products of pairs: AVX512-BF16. bf16 weights lie as pairs of inputs already, a group of any other
// format is decoded once for all rows. Each output is one chain over rising pairs: bits depend on
// the row alone, and differ from those of f32 sums and of tiles. Included by op_dtype_isa files
// only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"
#include "kernels/cpu/dot_pairs-inl.h"
#include "kernels/cpu/f8_lookup-inl.h"
#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kPairBytes = 4;
constexpr int kPairLine = kStrip * kPairBytes;  // a pair of inputs of a strip's 32 outputs
constexpr int kMostDotRows = 12;                // 24 sums of 32 registers

/// Columns' codes of two inputs, side by side: what unpacking bytes of 128-bit lanes turns into
/// columns 0 to 15 and 16 to 31.
struct PairOrder {
  alignas(64) uint8_t at[64];
};
constexpr PairOrder MakePairOrder() {
  PairOrder order = {};
  for (int i = 0; i < 64; ++i) {
    const int lane = i / 16, half = i % 16 / 8, column = 16 * half + 4 * lane + i % 8 / 2;
    order.at[i] = static_cast<uint8_t>(i % 2 * 32 + column);
  }
  return order;
}
constexpr PairOrder kPairOrder = MakePairOrder();

/// Codes of E4M3 [inputs][32] to pairs [inputs / 2][32][2].
MODU_INLINE void DecodeF8Pairs(const std::byte* group, int inputs, std::byte* pairs) {
  const Int order = _mm512_load_si512(kPairOrder.at);
  const F8Lookup lookup;
  for (int i = 0; i < inputs / 2; ++i, group += 2 * kStrip, pairs += kPairLine) {
    const Int codes = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(group));
    lookup.Store(codes, pairs, pairs + 64);
  }
}

/// A group of any other format.
MODU_INLINE void DecodePairs(StripFormat format, const std::byte* group, int inputs,
                             std::byte* pairs) {
  alignas(64) float panel[kGroup * kStrip];
  DecodeGroup<true>(format, group, inputs, panel);
  const Int upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  for (int i = 0; i < inputs / 2; ++i) {
    for (int v = 0; v < kStrip; v += kLanes) {
      const float* const even = panel + 2 * i * kStrip + v;
      const Int first = _mm512_srli_epi32(_mm512_loadu_si512(even), 16);
      const Int second = _mm512_and_si512(_mm512_loadu_si512(even + kStrip), upper);
      _mm512_storeu_si512(pairs + i * kPairLine + v * kPairBytes, _mm512_or_si512(first, second));
    }
  }
}

/// tile[r][..] += in[r][0, 2 * count) x pairs. Rows are reached from every third.
template <int R>
void MultiplyPairs(const std::byte* pairs, int count, const std::byte* in, int64_t stride,
                   float* tile) {
  Float sums[R][2];
  const std::byte* thirds[(R + 2) / 3];
  for (int i = 0; i < (R + 2) / 3; ++i) thirds[i] = in + 3 * i * stride;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sums[r][0] = Load(tile + r * kStrip);
    sums[r][1] = Load(tile + r * kStrip + kLanes);
  }
  for (int i = 0; i < count; ++i, pairs += kPairLine) {
    const Int left = _mm512_loadu_si512(pairs), right = _mm512_loadu_si512(pairs + 64);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Int a = BroadcastPair(thirds[r / 3] + r % 3 * stride);
      sums[r][0] = DotPairs(sums[r][0], left, a);
      sums[r][1] = DotPairs(sums[r][1], right, a);
    }
#pragma GCC unroll 4
    for (int t = 0; t < (R + 2) / 3; ++t) thirds[t] += kPairBytes;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    Store(tile + r * kStrip, sums[r][0]);
    Store(tile + r * kStrip + kLanes, sums[r][1]);
  }
}

using MultiplyPairsFn = void (*)(const std::byte* pairs, int count, const std::byte* in,
                                 int64_t stride, float* tile);
constexpr MultiplyPairsFn kMultiplyPairs[kMostDotRows + 1] = {
    nullptr,           MultiplyPairs<1>,  MultiplyPairs<2>, MultiplyPairs<3>, MultiplyPairs<4>,
    MultiplyPairs<5>,  MultiplyPairs<6>,  MultiplyPairs<7>, MultiplyPairs<8>, MultiplyPairs<9>,
    MultiplyPairs<10>, MultiplyPairs<11>, MultiplyPairs<12>};

/// A FloatStripFn over kBf16Pairs. The strip behind this one, which the worker most often
/// multiplies next, is fetched to L2 on the way.
void Bf16DotsStrip(const Strip& strip, const PreparedLayout& layout, bool, const std::byte* in,
                   int rows, float* tile) {
  alignas(64) std::byte decoded[kGroup / 2 * kPairLine];
  for (int i = 0; i < rows * kStrip; i += kLanes) Store(tile + i, Zero());
  const int64_t strip_bytes = layout.groups() * strip.group_bytes;
  const std::byte* group = strip.data;
  for (int64_t k = 0; k < layout.cols; k += kGroup, group += strip.group_bytes) {
    for (int64_t line = 0; line < strip.group_bytes; line += 64) {
      __builtin_prefetch(group + strip_bytes + line, 0, 2);
    }
    const int inputs = layout.cols - k < kGroup ? static_cast<int>(layout.cols - k) : kGroup;
    const std::byte* pairs = decoded;
    if (strip.format == StripFormat::kBF16) {
      pairs = group;
    } else if (strip.format == StripFormat::kF8) {
      DecodeF8Pairs(group, inputs, decoded);
    } else {
      DecodePairs(strip.format, group, inputs, decoded);
    }
    for (int row = 0; row < rows; row += kMostDotRows) {
      const int some = rows - row < kMostDotRows ? rows - row : kMostDotRows;
      kMultiplyPairs[some](pairs, inputs / 2, in + row * layout.row_bytes + k * 2, layout.row_bytes,
                           tile + row * kStrip);
    }
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
