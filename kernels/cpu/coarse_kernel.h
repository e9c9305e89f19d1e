// What one instruction set offers for products with a head's upper bits (coarse_head.h): their
// layout, and the kernel over one strip.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu {

// A coarse strip is of the same 32 outputs:
//   float lengths [32]    the largest |r| of an output's groups, at least kLeastLength
// then its chunks:
//   float units [32]
//   pairs of groups, the first group first: codes, codes, then scales as in the whole strip
// with a group's codes [2 halves of the strip], each
//   [4 lines] nibbles     the lower four bits of inputs and columns as kW4's
//   [1 line] fifth bits   bit z of byte b: of the code that lies in byte b of the eight lines of
//                         nibbles: low of line 0, high of line 0, low of line 1, ..
constexpr int64_t kCoarseHeadBytes = 128;
constexpr int64_t kCoarseHalfBytes = 5 * 64;
constexpr int64_t kCoarsePairBytes = 4 * kCoarseHalfBytes + 128;
constexpr int64_t CoarseStripBytes(int64_t groups) {
  return kCoarseHeadBytes + ChunksOf(groups) * kUnitsBytes + PairsOf(groups) * kCoarsePairBytes;
}
constexpr float kLeastLength = 12;  // 32 evenly spread r have 13

/// A group of kInt8 activations as coarse products need it, in units of the row; with the codes c
/// and the group's values v
///   scale * (sum of c v) + begin + centre * (sum of c)
/// is the group's y (int8_join-inl.h) and its centre's part, of 8c + 3.5 - 128 for each code. The
/// whole codes' is from that by at most the output's length times `reach`.
struct CoarseGroup {
  float scale, begin, centre, reach;
};
struct CoarseRow {
  const std::byte* in;        // the Prepared row
  const CoarseGroup* groups;  // [2 * pairs]
  const float* unit;          // RowUnit
  float rounding;             // reach of what whole products' centres are rounded by
};

/// Of one strip, for each of up to kMostCoarseRows rows: the largest coarse product, and what no
/// product is above. Of more rows too many strips are left, and computing is dearer than reading.
constexpr int kMostCoarseRows = 2;
struct CoarseResult {
  float* best;   // of row r at [r * stride]
  float* upper;  // likewise
  int64_t stride;
};
using CoarseStripFn = void (*)(const std::byte* strip, int64_t groups,
                               std::span<const CoarseRow> rows, const CoarseResult& out);
CoarseStripFn CoarseStripAvx2();
CoarseStripFn CoarseStripAvx512();

}  // namespace modu::kernels::cpu
