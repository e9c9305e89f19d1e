// Products of 4- and 8-bit weights with int8 activations on tile registers: AMX, or its scalar twin
// as the template argument Tiles. A tile product sums the 32 inputs of one group (16 where a format
// has a scale for each half), so it is the whole number that vector kernels compute, and joins the
// sums by the same whole numbers (int8_join-inl.h): the bits are theirs, and a row may go by tiles
// or by vectors as the step has many rows or few.
//
// A is read where the activations lie (16 rows, row_bytes apart), B where the codes of 8-bit
// formats lie: a strip's line of 16 columns is a row of B. Nibbles are unpacked once a group for
// all rows. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_join-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// From this many rows of a block on a strip goes by tiles, below by vectors: speed alone decides,
/// the bits are the same. With the join in floats that this had before, on a Sapphire Rapids
/// (layers of the default model, two cores, ms by vectors / tiles): 6 rows 2.26 / 2.31, 8 rows 3.1
/// / 3.4, 10 rows 4.1 / 3.7, 16 rows 5.8 / 4.9.
constexpr int kMinTileProductRows = 900;

/// Nibbles of one group to bytes, in the order of the 8-bit formats: [2][8 lines][16 columns][4].
MODU_INLINE void UnpackNibbles(const std::byte* group, std::byte* bytes) {
  for (int v = 0; v < kVectorsPerStrip; ++v) {
    for (int z = 0; z < 4; ++z) {
      const Int x = LoadCodes(CodesAt<256>(group, v, z));
      StoreInt(const_cast<std::byte*>(CodesAt<512>(bytes, v, 2 * z)), LowNibbles(x));
      StoreInt(const_cast<std::byte*>(CodesAt<512>(bytes, v, 2 * z + 1)), HighNibbles(x));
    }
  }
}

/// dots[row][32] = products of rows of A with the B tiles 6 (columns 0 to 15) and 7.
template <typename Format, int kC0, int kC1, int kA, typename Tiles>
MODU_INLINE void MultiplyTile(Tiles& tiles, const std::byte* a, int64_t row_bytes, int32_t* dots) {
  tiles.template Load<kA>(a, row_bytes);
  tiles.template Zero<kC0>();
  tiles.template Zero<kC1>();
  if constexpr (Format::kSigned) {
    tiles.template DotSignedSigned<kC0, kA, 6>();
    tiles.template DotSignedSigned<kC1, kA, 7>();
  } else {
    tiles.template DotSignedUnsigned<kC0, kA, 6>();
    tiles.template DotSignedUnsigned<kC1, kA, 7>();
  }
  constexpr int64_t kStride = kStrip * sizeof(int32_t);
  tiles.template Store<kC0>(dots, kStride);
  tiles.template Store<kC1>(dots + kTileRowBytes / 4, kStride);
}

/// Whole numbers of up to kTileRows rows: products of one part of a pair's groups, and sums.
struct TileSums {
  alignas(64) int32_t dots[2][kTileRows * kStrip];
  alignas(64) int32_t c[kTileRows * kStrip];
};
MODU_INLINE Int LoadSums(const int32_t* p) {
  return LoadCodes(reinterpret_cast<const std::byte*>(p));
}
MODU_INLINE void StoreSums(int32_t* p, Int x) { StoreInt(reinterpret_cast<std::byte*>(p), x); }

/// c += what one part of a pair brings, with the minimums after the last; in: the rows' Int8Pairs.
template <typename Format>
MODU_INLINE void JoinRows(const std::byte* pair, int part, const std::byte* in, int64_t row_bytes,
                          int rows, TileSums& all) {
  Int scales[kVectorsPerStrip], minimums[kVectorsPerStrip], factors[kVectorsPerStrip];
  const bool has_minimums = Format::kMin && part + 1 == Format::kParts;
  for (int v = 0; v < kVectorsPerStrip; ++v) {
    scales[v] = ScalesOf<Format>(pair, part, v);
    minimums[v] = has_minimums ? ScalesOf<Format>(pair, Format::kParts, v) : SetInt(0);
    factors[v] = SetInt(0);
  }
  bool has_factors = false;
  for (int r = 0; r < rows; ++r) {
    const auto& a = *reinterpret_cast<const Int8Pair*>(in + r * row_bytes);
    const Int first = BeginOf<Format>(a.first_begin()), second = BeginOf<Format>(a.second_begin());
    if (a.centres != 0 && !has_factors) {
      for (int v = 0; v < kVectorsPerStrip; ++v) {
        factors[v] = CentreFactors<Format>(pair, part, v);
      }
      has_factors = true;
    }
    for (int v = 0; v < kVectorsPerStrip; ++v) {
      const int at = r * kStrip + v * kLanes;
      const Int x = JoinDots<Format>(AddInt(LoadSums(all.dots[0] + at), first),
                                     AddInt(LoadSums(all.dots[1] + at), second));
      Int c = LoadSums(all.c + at);
      c = AddScaled(c, x, scales[v], a);
      if (a.centres != 0) c = AddCentres(c, factors[v], a);
      if (has_minimums) c = AddMinimums(c, minimums[v], a);
      StoreSums(all.c + at, c);
    }
  }
}

/// An Int8StripFn for any number of rows up to kTileRows.
template <typename Format, typename Tiles>
void TileProductStrip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in,
                      int rows, const Ahead&, float* tile) {
  constexpr int kInputs = kGroup / Format::kParts;  // of one tile product
  const int64_t row_bytes = layout.row_bytes;
  const int whole = rows / kTileMaxRows, tail = rows % kTileMaxRows;
  // Two sets of C and A: C 0 and 1 with A 4 have 16 rows, C 2 and 3 with A 5 those of the last tile
  // if it has fewer; else tiles of rows take the sets in turn.
  const int second = tail == 0 ? kTileMaxRows : tail;
  TileConfig config;
  for (const int t : {0, 1}) config.Set(t, kTileMaxRows, kTileRowBytes);
  for (const int t : {2, 3}) config.Set(t, second, kTileRowBytes);
  config.Set(4, kTileMaxRows, kInputs);
  config.Set(5, second, kInputs);
  for (const int t : {6, 7}) config.Set(t, kInputs / 4, kTileRowBytes);
  Tiles tiles;
  tiles.Configure(config);

  alignas(64) std::byte unpacked[2][Format::kNibbles ? 1024 : 64];
  TileSums all;
  const auto pairs = static_cast<int>(PairsOf(layout.groups()));
  const std::byte* from = strip;
  for (int first = 0; first < pairs; first += kChunkPairs) {
    const auto* const units = reinterpret_cast<const float*>(from);
    from += kUnitsBytes;
    for (int i = 0; i < rows * kStrip; i += kLanes) StoreSums(all.c + i, SetInt(0));
    const int end = pairs - first < kChunkPairs ? pairs : first + kChunkPairs;
    for (int p = first; p < end; ++p, from += PairBytes(Format::kFormat)) {
      if constexpr (Format::kNibbles) {
        for (int g = 0; g < 2; ++g) UnpackNibbles(CodesOf<Format>(from, g), unpacked[g]);
      }
      const std::byte* const a = in + p * static_cast<int64_t>(sizeof(Int8Pair));
      for (int part = 0; part < Format::kParts; ++part) {
        for (int g = 1; g >= 0; --g) {
          const std::byte* const codes = Format::kNibbles ? unpacked[g] : CodesOf<Format>(from, g);
          tiles.template Load<6>(codes + part * kInputs * 16, 64);
          tiles.template Load<7>(codes + part * kInputs * 16 + 512, 64);
          const std::byte* const values = a + g * kGroup + part * kInputs;
          for (int t = 0; t < whole; ++t) {
            const std::byte* const tile_rows = values + t * kTileMaxRows * row_bytes;
            int32_t* const to = all.dots[g] + t * kTileMaxRows * kStrip;
            if (tail == 0 && t % 2 == 1) {
              MultiplyTile<Format, 2, 3, 5>(tiles, tile_rows, row_bytes, to);
            } else {
              MultiplyTile<Format, 0, 1, 4>(tiles, tile_rows, row_bytes, to);
            }
          }
          if (tail != 0) {
            MultiplyTile<Format, 2, 3, 5>(tiles, values + whole * kTileMaxRows * row_bytes,
                                          row_bytes, all.dots[g] + whole * kTileMaxRows * kStrip);
          }
        }
        JoinRows<Format>(from, part, a, row_bytes, rows, all);
      }
    }
    for (int r = 0; r < rows; ++r) {
      const float unit = *RowUnit(layout, in + r * row_bytes);
      for (int i = 0; i < kStrip; i += kLanes) {
        float* const out = tile + r * kStrip + i;
        Store(out, AddChunk(LoadSums(all.c + r * kStrip + i), Load(units + i), unit,
                            first == 0 ? Zero() : Load(out)));
      }
    }
  }
  tiles.Release();
}

/// Tiles for many rows, `kVectors()` of the table of vector kernels for few.
template <typename Format, typename Tiles, const Int8Kernels& (*kVectors)()>
void TilesOrVectorsStrip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in,
                         int rows, const Ahead& ahead, float* tile) {
  if (rows >= kMinTileProductRows) {
    TileProductStrip<Format, Tiles>(strip, layout, in, rows, ahead, tile);
  } else {
    kVectors().strip[static_cast<int>(Format::kFormat)](strip, layout, in, rows, ahead, tile);
  }
}

template <typename Tiles>
constexpr Int8Kernels kTileProductKernels = {
    {TileProductStrip<W4, Tiles>, TileProductStrip<W4, Tiles>, TileProductStrip<W8, Tiles>,
     TileProductStrip<W8Min, Tiles>, TileProductStrip<W8Half, Tiles>}};

template <typename Tiles, const Int8Kernels& (*kVectors)()>
constexpr Int8Kernels kTilesOrVectors = {
    {TilesOrVectorsStrip<W4, Tiles, kVectors>, TilesOrVectorsStrip<W4, Tiles, kVectors>,
     TilesOrVectorsStrip<W8, Tiles, kVectors>, TilesOrVectorsStrip<W8Min, Tiles, kVectors>,
     TilesOrVectorsStrip<W8Half, Tiles, kVectors>}};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
