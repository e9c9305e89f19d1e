#include "kernels/cpu/tile_cut.h"

#include <algorithm>

#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu {
namespace {

/// Half of what a second cache holds: activations that all strips of a unit read.
constexpr int64_t kCachedBytes = int64_t{1} << 20;
/// Rows that share a strip's decoding, where sums of all of them are kept beside those activations.
constexpr int kNarrowRows = 256;
/// Rows and pairs that share a chunk of K where activations of kNarrowRows are too large: those of
/// a chunk are 576 KiB, sums 1 MiB. A strip is decoded for twice as many rows, and what the second
/// cache does not hold is read once for 16 strips; 12 to 24 are as fast, 8 are slower by a tenth
/// (benchmarks/results/2026-12-01-amx-wide.md).
constexpr int kWideRows = 512, kWidePairs = 16;
/// Units a worker, for workers of unlike speed.
constexpr int kFewestUnits = 4;

constexpr int InBlocks(int rows) { return (rows + kBlockRows - 1) / kBlockRows * kBlockRows; }

int64_t EvenChunk(int64_t groups) {
  if (groups <= kSingleChunkGroups) return groups;
  const int64_t chunks = (groups + kChunkGroups - 1) / kChunkGroups;
  return (groups + chunks - 1) / chunks;
}

/// All of K times a pair after the other. Of few groups, sums are of a pass: all rows that a worker
/// has share a strip's decoding.
int NarrowRows(const PreparedLayout& layout, int num_tokens, bool keep_sums, int workers) {
  if (layout.groups() > kSingleChunkGroups || keep_sums) return kNarrowRows;
  const auto cached = static_cast<int>(kCachedBytes / (layout.block_bytes / layout.block_rows));
  const int share = InBlocks((num_tokens + workers - 1) / workers);
  return std::max(kNarrowRows, std::min(share, cached / kBlockRows * kBlockRows));
}

}  // namespace

TileCut CutForTiles(const PreparedLayout& layout, int num_tokens, const TilePairs& all,
                    int workers) {
  TileCut cut = {.groups = EvenChunk(layout.groups())};
  const bool wide = layout.Bytes(std::min(num_tokens, kNarrowRows)) >= kCachedBytes;
  if (wide) {
    const int ranges = (num_tokens + kWideRows - 1) / kWideRows;
    cut.rows = InBlocks((num_tokens + ranges - 1) / ranges);
    cut.pairs = kWidePairs;
  } else {
    cut.rows = NarrowRows(layout, num_tokens, all.keep_sums, workers);
    cut.pairs = all.least;
  }
  const auto units = [&] { return cut.RowRanges(num_tokens) * cut.PairRanges(all.count); };
  while (units() < kFewestUnits * workers) {  // the longer side is halved
    if (cut.pairs > all.least && (cut.pairs * kStrip >= cut.rows || cut.rows == kBlockRows)) {
      cut.pairs /= 2;
    } else if (cut.rows > kBlockRows) {
      cut.rows = InBlocks(cut.rows / 2);
    } else {
      break;
    }
  }
  return cut;
}

}  // namespace modu::kernels::cpu
