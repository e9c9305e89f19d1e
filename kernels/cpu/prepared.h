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

enum class PreparedKind : uint8_t {
  kF32,        // cols floats
  kBf16,       // cols floats, each rounded to bf16 (nearest even)
  kBf16Pairs,  // cols bf16, each rounded so
  kBf16Tiles,  // B tiles of 16 rows x 32 inputs, zeros in inputs past the last: [16][16 rows][2]
  kInt8,       // cols / kGroup Int8Groups
  kInt8Pairs,  // cols / kGroup Int8PairsGroups
};

/// x[i] is about centre + scale * values[i], where centre is the middle of the group's range, r its
/// largest distance from there, scale = r / 127, values = round((x - centre) * (127 / r)). Groups
/// with one large value, from which most of the error comes, are lopsided: the centre takes 60 %
/// off the variance of the default model's log probabilities (benchmarks/results). What a kernel
/// needs of a group lies together, so that one pointer a row reaches it.
struct Int8Group {
  int8_t values[kGroup];
  float scale;
  float total;  // of the x that the group stands for: scale * sum + 32 * centre
  int32_t sum;  // of values
  float centre;
};
static_assert(sizeof(Int8Group) == 48);

/// The same for kernels that add what centre and total bring by one dot product of bf16 pairs
/// (int8_pairs_join-inl.h): the centre is a bf16 number.
struct Int8PairsGroup {
  int8_t values[kGroup];
  float scale;
  uint32_t pair;      // bf16 of total, in the upper half of centre
  int32_t minus_sum;  // -8 * sum: added to a product of values and codes, it makes them codes - 8
  float centre;
};
static_assert(sizeof(Int8PairsGroup) == 48);

constexpr bool IsBf16(PreparedKind kind) {
  return kind == PreparedKind::kBf16 || kind == PreparedKind::kBf16Pairs ||
         kind == PreparedKind::kBf16Tiles;
}

constexpr bool IsInt8(PreparedKind kind) {
  return kind == PreparedKind::kInt8 || kind == PreparedKind::kInt8Pairs;
}

/// The kinds that a machine's kernels read, by numerics.
struct ActivationKinds {
  PreparedKind bf16 = PreparedKind::kBf16;
  PreparedKind int8 = PreparedKind::kInt8;
};

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

PreparedLayout MakePreparedLayout(PreparedKind kind, int64_t cols);

/// What `consumer` reads. Constant time; `consumer` must be this backend's.
const PreparedLayout& LayoutOf(const PackedWeight& consumer);

/// Writes columns [first, first + count) of one row; `row` is layout.Row(...). In int8 both are
/// multiples of kGroup (or count reaches the row's end), in kBf16Pairs and kBf16Tiles even (or so).
/// values: [count] f32. The same bits on every instruction set. From the kernel table:
/// CpuDevice::prepare().
using PrepareFn = void (*)(const PreparedLayout& layout, std::byte* row, int64_t first,
                           int64_t count, const float* values);

/// PrepareFn of several rows of one block each, row_bytes apart; values: rows, `stride` floats
/// apart.
using PrepareRowsFn = void (*)(const PreparedLayout& layout, std::byte* row, int rows,
                               int64_t first, int64_t count, const float* values, int64_t stride);

}  // namespace modu::kernels::cpu
