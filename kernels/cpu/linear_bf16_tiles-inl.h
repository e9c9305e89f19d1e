// Products with bf16 activations on tile registers: AMX, or its scalar twin as the template
// argument Tiles. Weights of any format are decoded and rounded to bf16 as the vector kernels do
// it, in blocks of 256 inputs that stay in L1; bf16 strips are read where they lie.
//
// The order of additions is tdpbf16ps's: for each 32 inputs two chains of FMAs (even and odd
// inputs), their sum added to the output's. The vector kernels have one chain over all inputs, so
// the bits differ; neither can take the other's order at its own speed. Within a mode all row
// counts of a machine must agree, hence at level kAmx every bf16 product goes by tiles, one row
// too, and its activations have a layout that no vector kernel reads (PreparedKind::kBf16Pairs).
// The order depends on K alone: rows of a tile are independent, and sums parked in memory between
// blocks are the f32 that they were. Results differ from levels kAvx2 and kAvx512 in the last bits.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int64_t kPairsBytes = 2 * kGroup * kStrip;  // 32 inputs of a strip in bf16
constexpr int kBlockGroups = 8;

/// 32 x 32 f32 that are bf16 already, input-major, to bf16 strip order: [16 pairs][32 columns][2].
MODU_INLINE void PackPairs(const float* panel, std::byte* pairs) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
  for (int i = 0; i < kGroup / 2 * kStrip; i += 8) {
    const float* const even = panel + i / kStrip * 2 * kStrip + i % kStrip;
    const __m256i low = _mm256_srli_epi32(LoadInts(reinterpret_cast<const std::byte*>(even)), 16);
    const __m256i high = LoadInts(reinterpret_cast<const std::byte*>(even + kStrip));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs + 4 * i),
                        _mm256_or_si256(low, _mm256_and_si256(high, upper)));
  }
}

/// `groups` groups of a strip from `group` on, of which `inputs` inputs exist, to pairs.
MODU_INLINE void DecodePairs(const Strip& strip, const std::byte* group, int groups, int64_t inputs,
                             std::byte* pairs) {
  alignas(64) float panel[kGroup * kStrip];
  for (int g = 0; g < groups; ++g) {
    const int left = inputs < kGroup ? static_cast<int>(inputs) : kGroup;
    if (left < kGroup) __builtin_memset(panel, 0, sizeof(panel));  // 0 x what lay there may be NaN
    DecodeGroup<true>(strip.format, group, left, panel);
    PackPairs(panel, pairs);
    group += strip.group_bytes;
    pairs += kPairsBytes;
    inputs -= kGroup;
  }
}

/// Up to 32 rows: C 0, 1 and A 4 for the first 16, C 2, 3 and A 5 for the others; B is 6 and 7.
inline TileConfig ShapesFor(int rows) {
  const int first = rows < kTileMaxRows ? rows : kTileMaxRows;
  TileConfig config;
  for (const int t : {0, 1, 4}) config.Set(t, first, kTileRowBytes);
  for (const int t : {2, 3, 5}) config.Set(t, rows - first, kTileRowBytes);
  for (const int t : {6, 7}) config.Set(t, kGroup / 2, kTileRowBytes);
  return config;
}

/// tile[rows][32] (+)= rows of A x `groups` groups of pairs; `in` and `pairs` at the first input.
template <bool kSecond, typename Tiles>
MODU_INLINE void MultiplyPairs(Tiles& tiles, const std::byte* in, int64_t row_bytes,
                               const std::byte* pairs, int groups, bool start, float* tile) {
  constexpr int64_t kStride = kStrip * sizeof(float);
  float* const lower = tile + kTileMaxRows * kStrip;
  if (start) {
    tiles.template Zero<0>();
    tiles.template Zero<1>();
    if constexpr (kSecond) {
      tiles.template Zero<2>();
      tiles.template Zero<3>();
    }
  } else {
    tiles.template Load<0>(tile, kStride);
    tiles.template Load<1>(tile + kStrip / 2, kStride);
    if constexpr (kSecond) {
      tiles.template Load<2>(lower, kStride);
      tiles.template Load<3>(lower + kStrip / 2, kStride);
    }
  }
  for (int g = 0; g < groups; ++g, in += 2 * kGroup, pairs += kPairsBytes) {
    tiles.template Load<4>(in, row_bytes);
    tiles.template Load<6>(pairs, 4 * kStrip);
    tiles.template DotBf16<0, 4, 6>();
    tiles.template Load<7>(pairs + 2 * kStrip, 4 * kStrip);
    tiles.template DotBf16<1, 4, 7>();
    if constexpr (kSecond) {
      tiles.template Load<5>(in + kTileMaxRows * row_bytes, row_bytes);
      tiles.template DotBf16<2, 5, 6>();
      tiles.template DotBf16<3, 5, 7>();
    }
  }
  tiles.template Store<0>(tile, kStride);
  tiles.template Store<1>(tile + kStrip / 2, kStride);
  if constexpr (kSecond) {
    tiles.template Store<2>(lower, kStride);
    tiles.template Store<3>(lower + kStrip / 2, kStride);
  }
}

/// A FloatStripFn over kBf16Pairs activations.
template <typename Tiles>
void Bf16TileStrip(const Strip& strip, const PreparedLayout& layout, bool, const std::byte* in,
                   int rows, float* tile) {
  alignas(64) std::byte decoded[kBlockGroups * kPairsBytes];
  Tiles tiles;
  int configured = 0;
  const int64_t groups = (layout.cols + kGroup - 1) / kGroup;
  for (int64_t first = 0; first < groups; first += kBlockGroups) {
    const int count =
        groups - first < kBlockGroups ? static_cast<int>(groups - first) : kBlockGroups;
    const std::byte* pairs = strip.data + first * strip.group_bytes;
    if (strip.format != StripFormat::kBF16) {  // whose tail of a last group is zero
      DecodePairs(strip, pairs, count, layout.cols - first * kGroup, decoded);
      pairs = decoded;
    }
    for (int row = 0; row < rows; row += 2 * kTileMaxRows) {
      const int some = rows - row < 2 * kTileMaxRows ? rows - row : 2 * kTileMaxRows;
      if (some != configured) {
        tiles.Configure(ShapesFor(some));
        configured = some;
      }
      const std::byte* const a = in + row * layout.row_bytes + first * 2 * kGroup;
      float* const c = tile + row * kStrip;
      if (some > kTileMaxRows) {
        MultiplyPairs<true>(tiles, a, layout.row_bytes, pairs, count, first == 0, c);
      } else {
        MultiplyPairs<false>(tiles, a, layout.row_bytes, pairs, count, first == 0, c);
      }
    }
  }
  tiles.Release();
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
