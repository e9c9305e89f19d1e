// How products by tiles are cut into units: whole blocks and pairs, chunks that the first cache
// holds, activations and sums that the second does, units for all workers. And where the blocks of
// activations lie to each other.
#include "kernels/cpu/tile_cut.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_unit.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

PreparedLayout TilesOf(int64_t cols) { return MakePreparedLayout(PreparedKind::kBf16Tiles, cols); }

/// Of one worker with as many rows and pairs as it likes.
TileCut CutOfMany(int64_t cols) { return CutForTiles(TilesOf(cols), 4096, {.count = 512}, 1); }

TEST_CASE("any product by tiles is cut into whole blocks, pairs and chunks") {
  tests::Random random(1);
  const auto below = [&](int limit) { return static_cast<int>(random.Between(0, 1) * limit); };
  for (int i = 0; i < 20000; ++i) {
    const int64_t cols = 2 + 2 * below(i % 2 == 0 ? 400 : 16000);
    const int tokens = 1 + below(i % 3 == 0 ? 70 : 3000), workers = 1 + below(32);
    const TilePairs all = {
        .count = 2 * (1 + below(300)), .least = 1 + i % 2, .keep_sums = i % 5 == 0};
    const PreparedLayout layout = TilesOf(cols);
    const TileCut cut = CutForTiles(layout, tokens, all, workers);
    INFO("cols " << cols << " tokens " << tokens << " pairs " << all.count << " workers " << workers
                 << ": rows " << cut.rows << " pairs " << cut.pairs << " groups " << cut.groups);
    REQUIRE((cut.rows >= kBlockRows && cut.rows % kBlockRows == 0));
    REQUIRE((cut.pairs >= all.least && cut.pairs % all.least == 0));
    REQUIRE((cut.groups >= 1 && cut.groups <= kSingleChunkGroups));
    if (cut.groups < layout.groups()) REQUIRE(cut.groups <= kChunkGroups);
    REQUIRE((cut.RowRanges(tokens) - 1) * cut.rows < tokens);
    REQUIRE(cut.RowRanges(tokens) * cut.rows >= tokens);
    REQUIRE((cut.PairRanges(all.count) - 1) * cut.pairs < all.count);
    REQUIRE(cut.PairRanges(all.count) * cut.pairs >= all.count);
    const bool smallest = cut.rows == kBlockRows && cut.pairs == all.least;
    if (!smallest) REQUIRE(cut.RowRanges(tokens) * cut.PairRanges(all.count) >= 4 * workers);
    const TileProduct product = {Bf16TileKernels(), layout, all, cut};
    REQUIRE(product.ScratchBytes() <= (2 << 20));
  }
}

TEST_CASE("of narrow K all that a worker has shares a strip's decoding, of wide K a chunk of it") {
  CHECK(CutForTiles(TilesOf(576), 1500, {.count = 96, .least = 2}, 2).rows == 768);
  CHECK(CutForTiles(TilesOf(576), 1500, {.count = 96, .keep_sums = true}, 2).rows == 256);
  const TileCut middle = CutForTiles(TilesOf(1536), 1500, {.count = 18}, 2);
  CHECK((middle.rows == 256 && middle.pairs == 1 && middle.groups == 16));
  const TileCut wide = CutForTiles(TilesOf(5632), 1024, {.count = 64}, 2);
  CHECK((wide.rows == 512 && wide.pairs == 16 && wide.groups == 18));
  const TileCut many = CutForTiles(TilesOf(5632), 1024, {.count = 64}, 16);
  CHECK((many.rows == 256 && many.pairs == 4));
  // What is read by all strips of a chunk, and its sums, leave room in a second cache of 2 MiB.
  for (const int64_t cols : {640, 1024, 1536, 2048, 4096, 5632, 14336, 28672}) {
    const TileCut cut = CutOfMany(cols);
    INFO("K " << cols);
    const int64_t groups = cut.pairs == 1 ? TilesOf(cols).groups() : cut.groups;
    const int64_t rows = cut.rows / kTileMaxRows * groups * kTileBytes;
    const bool kept = TilesOf(cols).groups() > kSingleChunkGroups;
    const int64_t sums = kept ? int64_t{cut.rows} * cut.pairs * kStrip * 4 : 0;
    CHECK(rows + sums <= (int64_t{7} << 18));
  }
}

TEST_CASE("blocks of tiles: pieces of a chunk spread over the sets of a second cache") {
  constexpr int64_t kWay = 2048 * 64, kLine = 64;        // bytes that differ in their sets
  for (int64_t cols = 704; cols <= 32768; cols += 64) {  // as models have them
    const PreparedLayout layout = TilesOf(cols);
    REQUIRE(layout.block_bytes >= layout.groups() * kTileBytes);
    const TileCut cut = CutOfMany(cols);
    if (cut.pairs == 1) continue;
    std::vector<int> lines(static_cast<size_t>(kWay / kLine), 0);
    for (int block = 0; block < cut.rows / kTileMaxRows; ++block) {
      for (int64_t at = 0; at < cut.groups * kTileBytes; at += kLine) {
        ++lines[static_cast<size_t>((block * layout.block_bytes + at) % kWay / kLine)];
      }
    }
    INFO("K " << cols);
    CHECK(*std::max_element(lines.begin(), lines.end()) <= 10);  // of 16 ways; 5 if even
  }
}

}  // namespace
}  // namespace modu::kernels::cpu
