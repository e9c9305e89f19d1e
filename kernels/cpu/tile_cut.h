// How a matrix product by tiles is cut into units of work for the pool, by what a core's second
// cache holds.
#pragma once
#include <cstdint>

#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu {

/// Pairs of tiles of outputs (32 outputs) that a weight has.
struct TilePairs {
  int count;
  int least = 1;           // that stay in one unit, a power of two
  bool keep_sums = false;  // of all rows of a unit until its last pair is done
};

/// A unit is some rows times some pairs.
struct TileCut {
  int rows = 0;        // a multiple of kBlockRows
  int pairs = 0;       // a multiple of the least
  int64_t groups = 0;  // of K, a chunk, which is multiplied with all of a unit's
                       // rows and pairs before the next one

  int RowRanges(int num_tokens) const { return (num_tokens - 1) / rows + 1; }
  int PairRanges(int count) const { return (count - 1) / pairs + 1; }
};

/// in: of kBf16Tiles.
TileCut CutForTiles(const PreparedLayout& in, int num_tokens, const TilePairs& all, int workers);

}  // namespace modu::kernels::cpu
