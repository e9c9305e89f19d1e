// How a row of f32 activations becomes the Prepared that a packed weight multiplies with. Norm,
// attention and gated linears write it; the linear kernels read it. A row may be written in pieces
// of whole groups, by different workers.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace modu::kernels::cpu {

/// Activations that share one int8 scale, and weights that share theirs.
constexpr int kGroup = 32;
/// Steps to either side of a group's middle. At most 120, so that a value and a 4-bit code from its
/// middle add up to a byte (linear_int8_winograd-inl.h); levels that have no use for it take the
/// same, to have the same bits. Any number from 112 to 120 costs as much, but for what a single
/// text or token makes of it by chance: of twenty, this one was within all of tests/default_model's
/// bounds but one (benchmarks/results/2026-11-29-zen4-winograd.md).
constexpr float kInt8Steps = 119.25f;

enum class PreparedKind : uint8_t {
  kF32,        // cols floats
  kBf16,       // cols floats, each rounded to bf16 (nearest even)
  kBf16Pairs,  // cols bf16, each rounded so
  kBf16Tiles,  // B tiles of 16 rows x 32 inputs, zeros in inputs past the last: [16][16 rows][2]
  kInt8,  // cols / kGroup groups by twos as Int8Pairs, then the row's unit and which have centres
};

/// Two groups of int8 activations as kernels read them (int8_join-inl.h). x[i] is about
/// centre + scale * values[i]: nearest steps of scale = r / kInt8Steps with r the largest distance
/// from the centre: 0, or the middle of a lopsided group's range where that gains much of the row
/// (kGain in quantise_groups-inl.h). Scales and centres count in the row's unit, kInt8Steps of
/// which are the largest |centre| + r, so that sums over all groups of a row are whole numbers. Of
/// two 16-bit halves the low one is the first group's. An odd number of groups ends with one of
/// zeros. A row whose unit is below 1e-30 counts as zeros.
struct Int8Pair {
  int8_t values[2 * kGroup];
  /// -8 * the sum of a group's values: added to their products with codes 0..15, it makes them
  /// codes - 8. Of the first group 2^15 more (SplitHalves in int8_join-inl.h).
  uint16_t begin[2];
  /// -(values[k] + 128) * values[k + 4], summed over all k of a group with k % 8 < 4; the second
  /// group's sum 2^16 times, both together modulo 2^32 (linear_int8_winograd-inl.h).
  uint32_t crosses;
  uint32_t scales;   // int16, in 2^-15 units
  uint32_t totals;   // int16: of the x that the group stands for, in eighths of a unit
  uint32_t centres;  // int16, in 2^-5 units

  int first_begin() const { return begin[0] - 0x8000; }
  int second_begin() const { return static_cast<int16_t>(begin[1]); }
  /// Both as they are added to 2^16 * second products + first products.
  int begins() const { return static_cast<int>(uint32_t{begin[1]} << 16 | begin[0]); }
};
static_assert(sizeof(Int8Pair) == 84);

/// A pair until its row is finished: scales and centres as they are, which are known in the row's
/// unit once all groups are (FinishRowsFn).
struct UnfinishedPair {
  int8_t values[2 * kGroup];
  uint16_t begin[2];
  float scale[2];  // NaN where a value is not finite
  float centre[2];
};
static_assert(sizeof(UnfinishedPair) == sizeof(Int8Pair));
static_assert(offsetof(UnfinishedPair, begin) == offsetof(Int8Pair, begin));
static_assert(kInt8Steps <= 120 && 8 * kGroup * kInt8Steps < 32768);
static_assert(offsetof(Int8Pair, totals) == offsetof(Int8Pair, scales) + 4);

/// Sums of so many pairs are whole numbers.
constexpr int kChunkPairs = 32;

// Behind a row's Int8Pairs stand
//   float unit;             NaN where an activation is not finite
//   uint32_t [chunks];      bit p: the chunk's pair p has a centre

/// Groups, by twos.
constexpr int64_t PairsOf(int64_t groups) { return (groups + 1) / 2; }
constexpr int64_t ChunksOf(int64_t groups) {
  return (PairsOf(groups) + kChunkPairs - 1) / kChunkPairs;
}
/// Bytes from a row to its unit, and of all of it.
constexpr int64_t Int8RowEndOffset(int64_t groups) {
  return PairsOf(groups) * static_cast<int64_t>(sizeof(Int8Pair));
}
constexpr int64_t Int8RowBytes(int64_t groups) {
  return Int8RowEndOffset(groups) + 4 + 4 * ChunksOf(groups);
}

constexpr bool IsBf16(PreparedKind kind) {
  return kind == PreparedKind::kBf16 || kind == PreparedKind::kBf16Pairs ||
         kind == PreparedKind::kBf16Tiles;
}

/// Rows lie one after another, but in kBf16Tiles, where 16 rows share a block: a pair of inputs of
/// all of them is one line.
struct PreparedLayout {
  PreparedKind kind = PreparedKind::kF32;
  int64_t cols = 0;         // K; a multiple of kGroup in int8
  int64_t row_bytes = 0;    // from a row to the next of its block
  int block_rows = 1;       // rows of a block
  int64_t block_bytes = 0;  // a multiple of 64, never one of 4096 (rows would share L1 sets)

  std::byte* Row(Prepared prepared, int64_t row) const {
    return prepared.data + row / block_rows * block_bytes + row % block_rows * row_bytes;
  }
  int64_t groups() const { return (cols + kGroup - 1) / kGroup; }
  /// Of `rows` rows, whole blocks.
  int64_t Bytes(int64_t rows) const { return (rows + block_rows - 1) / block_rows * block_bytes; }
};

/// Of a kInt8 row; behind it the chunks' masks.
inline const float* RowUnit(const PreparedLayout& layout, const std::byte* row) {
  return reinterpret_cast<const float*>(row + Int8RowEndOffset(layout.groups()));
}

/// Bit p: pair p of the chunk has a centre, in the row of that unit.
inline uint32_t CentredPairs(const float* row_unit, int chunk) {
  uint32_t mask;
  __builtin_memcpy(&mask, row_unit + 1 + chunk, sizeof(mask));
  return mask;
}

PreparedLayout MakePreparedLayout(PreparedKind kind, int64_t cols);

/// What `consumer` reads. Constant time; `consumer` must be this backend's.
const PreparedLayout& LayoutOf(const PackedWeight& consumer);

/// Writes columns [first, first + count) of one row; `row` is layout.Row(...). In int8 both are
/// multiples of kGroup (or count reaches the row's end), in kBf16Pairs and kBf16Tiles even (or so).
/// values: [count] f32. The same bits on every instruction set. From the kernel table:
/// CpuDevice::prepare(). A row of kInt8 that is written in more than one piece is to be finished.
using PrepareFn = void (*)(const PreparedLayout& layout, std::byte* row, int64_t first,
                           int64_t count, const float* values);

/// PrepareFn of several rows of one block each, row_bytes apart; values: rows, `stride` floats
/// apart.
using PrepareRowsFn = void (*)(const PreparedLayout& layout, std::byte* row, int rows,
                               int64_t first, int64_t count, const float* values, int64_t stride);

/// Finishes kInt8 rows, row_bytes apart, all of whose pieces are written.
using FinishRowsFn = void (*)(const PreparedLayout& layout, std::byte* row, int rows);

}  // namespace modu::kernels::cpu
