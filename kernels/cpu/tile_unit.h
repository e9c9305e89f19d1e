// One unit of a matrix product by tiles: its pairs of tiles of outputs, chunk by chunk of K, so
// that a chunk's activations and the sums stay in the second cache. On the way it fetches what it
// reads next from farther away.
#pragma once
#include <algorithm>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_cut.h"

namespace modu::kernels::cpu {

/// What all units of a product share.
struct TileProduct {
  const Bf16TileKernels& kernels;
  const PreparedLayout& layout;  // of the activations
  TilePairs pairs;
  TileCut cut;

  /// Sums are added to from chunk to chunk.
  bool IsChunked(int rows) const { return rows > kPassRows && cut.groups < layout.groups(); }
  bool KeepsSums(int rows) const { return pairs.keep_sums || IsChunked(rows); }
  size_t ScratchBytes() const {
    const int rows = KeepsSums(cut.rows) ? cut.rows : kPassRows;
    return kTileScratchBytes + sizeof(float) * static_cast<size_t>(rows * kStrip * cut.pairs);
  }
};

struct TileUnit {
  int first_pair, last_pair;
  int row, rows;  // of the batch
  std::byte* scratch;

  /// Where sums are kept: [rows, whole passes][32], as passes have them.
  float* Sums(int pair) const {
    const int64_t passes = (rows + kPassRows - 1) / kPassRows;
    auto* const first = reinterpret_cast<float*>(scratch + kTileScratchBytes);
    return first + (pair - first_pair) * passes * kPassSums;
  }
};

/// Two tiles of outputs that are multiplied at once, and where what becomes of them goes.
struct OutputPair {
  OutputTile tiles[2];
  TileOutput out;
};

/// The activations that a unit multiplies, from its first row on.
class UnitProducts {
 public:
  UnitProducts(const TileProduct& product, const TileUnit& unit, Prepared in)
      : product_(product),
        unit_(unit),
        in_(product.layout.Row(in, unit.row)),
        groups_(product.layout.groups()),
        chunk_(product.IsChunked(unit.rows) ? product.cut.groups : groups_) {}

  /// pair_at(pair) is an OutputPair. finish(pair, row, rows, sums): a pass's sums, of rows from
  /// `row` of the unit on.
  template <typename PairAt, typename Finish>
  void Run(const PairAt& pair_at, const Finish& finish) const {
    for (int64_t group = 0; group < groups_; group += chunk_) {
      for (int pair = unit_.first_pair; pair < unit_.last_pair; ++pair) {
        const auto finish_pair = [&](int row, int rows, const float* sums) {
          finish(pair, row, rows, sums);
        };
        TileProductsArgs args = ArgsOf(pair, group, pair_at(pair));
        args.finish = FinishWith(finish_pair);
        const bool last = pair + 1 == unit_.last_pair;
        const int64_t next_group = !last ? group : args.last_group % groups_;
        const int next_pair = last && next_group != 0 ? unit_.first_pair : pair + 1;
        if (next_pair < product_.pairs.count) {
          FetchWeights(pair_at(next_pair), next_group, args);
        }
        product_.kernels.products(args);
      }
    }
  }

 private:
  /// `finish` for as long as the argument lives.
  template <typename Finish>
  static FinishPass FinishWith(const Finish& finish) {
    return {[](const void* context, int row, int rows, const float* sums) {
              (*static_cast<const Finish*>(context))(row, rows, sums);
            },
            &finish};
  }

  int64_t End(int64_t group) const { return std::min(group + chunk_, groups_); }

  TileProductsArgs ArgsOf(int pair, int64_t group, const OutputPair& outputs) const {
    const bool keep = product_.KeepsSums(unit_.rows);
    return {.outputs = {outputs.tiles[0], outputs.tiles[1]},
            .layout = &product_.layout,
            .in = in_,
            .rows = unit_.rows,
            .first_group = group,
            .last_group = End(group),
            .out = outputs.out,
            .ahead = {},
            .scratch = unit_.scratch,
            .sums = unit_.Sums(keep ? pair : unit_.first_pair),
            .keep_sums = keep,
            .finish = {}};
  }

  /// The next call's, if these are not this call's.
  void FetchWeights(const OutputPair& next, int64_t group, TileProductsArgs& args) const {
    const auto had = [&](const Strip* strip) {
      return group == args.first_group &&
             (strip == args.outputs[0].strip || strip == args.outputs[1].strip);
    };
    for (int i = 0; i < 2; ++i) {
      const Strip* const strip = next.tiles[i].strip;
      if (had(strip) || (i == 1 && strip == next.tiles[0].strip)) continue;
      args.ahead[i] = {strip->data + group * strip->group_bytes, 0, 1,
                       (End(group) - group) * strip->group_bytes / 64};
    }
  }

  const TileProduct& product_;
  const TileUnit& unit_;
  const std::byte* const in_;
  const int64_t groups_, chunk_;
};

}  // namespace modu::kernels::cpu
