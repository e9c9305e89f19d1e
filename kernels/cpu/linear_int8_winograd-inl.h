// Products of 4-bit weights with int8 activations for many rows, with half of the dot products:
// Winograd's inner product (S. Winograd, "A New Algorithm for Inner Product", IEEE Transactions on
// Computers C-17, 1968). Of inputs a and b and their codes l and h, counted from the middle, and
// with 128 so that one factor has no sign,
//   a l + b h = (a + h + 128) (b + l) - (a + 128) b - (h + 128) l
// The second product, summed over a group, is the row's (Int8Pair's crosses), the third the
// column's. All in whole numbers, so the bits are Int8Strip's. It gains where bytes are added more
// often than multiplied: Zen 4 does two additions of 64 bytes a cycle or one product, and two of
// those beside one of these in 1.5. Included by op_dtype_isa files only.
#pragma once
#include <bit>

#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Rows of a block: with two registers of columns what is summed, what it joins and the codes
/// leave a few registers.
constexpr int kWinogradRows = 4;
/// From so many rows on it takes less time than Int8Strip, though its first four rows make the
/// codes ready (benchmarks/results/2026-11-29-zen4-winograd-2.md).
constexpr int kFewestWinogradRows = 13;
/// Pairs whose codes are ready at a time: 20 KiB, so that L1 holds the rows' values too.
constexpr int kReadyPairs = 9;

/// Codes as they are added to activations, and what the columns' sums S of (h + 128) l take off.
/// S is that of 16 products, from -17,280 to 15,120: 2^15 - S is neither negative nor above 2^16.
/// By kinds, not by pairs, which took a fourteenth longer with 16 rows.
struct ReadyPairs {
  /// [group][line]: h + 128, and l.
  alignas(64) std::byte codes[kReadyPairs][2][4][kVectorsPerStrip][2][64];
  /// In the high halves: 2^15 - S of the first group, to which its products are added.
  alignas(64) std::byte start[kReadyPairs][kVectorsPerStrip][64];
  /// Added in halves at the end. The high one: - S of the second group. The low one: what
  /// SplitHalves turns.
  alignas(64) std::byte rest[kReadyPairs][kVectorsPerStrip][64];
};

/// A pair's codes for a block of rows: ready ones.
struct CodesReady {
  const ReadyPairs& ready;
  int p;

  MODU_INLINE CodesReady(const std::byte*, int index, ReadyPairs& pairs) : ready(pairs), p(index) {}
  MODU_INLINE void Line(int g, int z, int v, Int& high, Int& low) const {
    high = LoadCodes(ready.codes[p][g][z][v][0]);
    low = LoadCodes(ready.codes[p][g][z][v][1]);
  }
  /// Its high halves are what the first group's products are added to.
  MODU_INLINE Int Start(int v) const { return LoadCodes(ready.start[p][v]); }
  MODU_INLINE void MakeSums() {}
  /// Both groups' products in halves, from all that was added up.
  MODU_INLINE Int Halves(int v, Int dots) const {
    return _mm512_add_epi16(dots, LoadCodes(ready.rest[p][v]));
  }
};

/// A strip's, which the first rows of a stretch make ready while they are multiplied with them, so
/// that stores lie beside products. The first group's sums are not known before its products are,
/// and are taken off as whole dwords, as those may have carried.
struct CodesToMakeReady {
  const std::byte* pair;
  int p;
  ReadyPairs& ready;
  Int sums[2][kVectorsPerStrip];

  MODU_INLINE CodesToMakeReady(const std::byte* at, int index, ReadyPairs& pairs)
      : pair(at), p(index), ready(pairs) {
    for (auto& of_group : sums) {
      for (Int& sum : of_group) sum = SetInt(0);
    }
  }
  MODU_INLINE void Line(int g, int z, int v, Int& high, Int& low) {
    const Int x = LoadCodes(CodesAt<256>(CodesOf<W4>(pair, g), v, z));
    high = AddCodes(HighNibbles(x), _mm512_set1_epi8(120));
    low = AddCodes(LowNibbles(x), _mm512_set1_epi8(-8));
    sums[g][v] = _mm512_dpbusd_epi32(sums[g][v], high, low);
    StoreInt(ready.codes[p][g][z][v][0], high);
    StoreInt(ready.codes[p][g][z][v][1], low);
  }
  MODU_INLINE Int Start(int) const { return SetInt(INT32_MIN); }
  MODU_INLINE void MakeSums() {
#pragma GCC unroll 2
    for (int v = 0; v < kVectorsPerStrip; ++v) {
      StoreInt(ready.start[p][v], ShiftUp<16>(_mm512_sub_epi32(SetInt(0x8000), sums[0][v])));
      const Int rest = ShiftUp<16>(_mm512_sub_epi32(SetInt(0), sums[1][v]));
      StoreInt(ready.rest[p][v], OrBits(rest, SetInt(0x8000)));
    }
  }
  MODU_INLINE Int Halves(int v, Int dots) const {
    return _mm512_add_epi16(_mm512_sub_epi32(dots, sums[0][v]), LoadCodes(ready.rest[p][v]));
  }
};

/// The low halves of x above the high halves of `high`.
MODU_INLINE Int LowAboveHigh(Int x, Int high) { return _mm512_shldi_epi32(x, high, 16); }

/// MakeFactors of several of a chunk's pairs, by their codes as they are ready, which takes half of
/// the time; the first that is ready is the chunk's pair `first`. A line's h + 128 and l are its
/// nibbles and 112, of which nothing is left in a byte that began with 64 after four lines.
[[gnu::noinline]] inline void MakeReadyFactors(uint32_t pairs, int first, const ReadyPairs& ready,
                                               Chunk<W4>& chunk) {
  chunk.made |= pairs;
  for (; pairs != 0; pairs &= pairs - 1) {
    const int p = std::countr_zero(pairs);
#pragma GCC unroll 2
    for (int v = 0; v < kVectorsPerStrip; ++v) {
      Int sums[2];
#pragma GCC unroll 2
      for (int g = 0; g < 2; ++g) {
        Int four = _mm512_set1_epi8(64);
#pragma GCC unroll 4
        for (int z = 0; z < 4; ++z) {
          four = AddCodes(four, LoadCodes(ready.codes[p - first][g][z][v][0]));
          four = AddCodes(four, LoadCodes(ready.codes[p - first][g][z][v][1]));
        }
        sums[g] = FromMiddle<W4>(AddFour(four));
      }
      StoreInt(chunk.factors[p][0] + 64 * v,
               CentreFactors<W4>(chunk.PairAt(p), 0, v, sums[0], sums[1]));
    }
  }
}

/// c += what the centres of several pairs bring; in: row 0 at the chunk's first pair. Behind all
/// products, whose loop has use for all registers: whole numbers are added in any order.
template <int R, int V>
MODU_INLINE void AddCentresOf(uint32_t pairs, const Chunk<W4>& chunk, const std::byte* in,
                              int64_t row_bytes, Int (&c)[R][V]) {
  for (; pairs != 0; pairs &= pairs - 1) {
    const int p = std::countr_zero(pairs);
    const std::byte* const of_pair = in + p * static_cast<int64_t>(sizeof(Int8Pair));
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Int factors = LoadCodes(chunk.factors[p][0] + 64 * v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const auto& row = *reinterpret_cast<const Int8Pair*>(of_pair + r * row_bytes);
        c[r][v] = AddCentres(c[r][v], factors, row);
      }
    }
  }
}

/// Pairs [first, first + count) of a chunk for kWinogradRows rows; Codes: one of those above.
/// centred: those of which a row has a centre. in: row 0 at the chunk's first pair. sums:
/// [rows][registers] from one stretch of the chunk to the next. Inlined, as prompts took 1.09 of
/// the time with a function of its own (GCC 12).
template <typename Codes>
MODU_INLINE void WinogradBlock(Chunk<W4>& chunk, int first, int count, ReadyPairs& ready,
                               const std::byte* in, const float* const* units, uint32_t centred,
                               int64_t row_bytes, FetchAhead& fetch, std::byte* sums, float* tile) {
  constexpr int R = kWinogradRows, V = kVectorsPerStrip;
  FetchAhead ahead = fetch;  // in registers
  Int c[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      c[r][v] = first == 0 ? SetInt(0) : LoadCodes(sums + (r * V + v) * 64);
    }
  }
  const std::byte* pair = chunk.PairAt(first);
  const std::byte* of_pair = in + first * static_cast<int64_t>(sizeof(Int8Pair));
  for (int p = 0; p < count; ++p, pair += PairBytes(W4::kFormat), of_pair += sizeof(Int8Pair)) {
    Codes codes(pair, p, ready);
    const Int8Pair* rows[R];
    for (int r = 0; r < R; ++r) {
      rows[r] = reinterpret_cast<const Int8Pair*>(of_pair + r * row_bytes);
    }
    Int dots[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) dots[r][v] = codes.Start(v);
    }
#pragma GCC unroll 2
    for (int g = 1; g >= 0; --g) {
      ahead.Fetch();
#pragma GCC unroll 4
      for (int z = 0; z < 4; ++z) {
        Int high[V], low[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) codes.Line(g, z, v, high[v], low[v]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const int8_t* const values = rows[r]->values + g * kGroup + 8 * z;
          const Int a = Four(values), b = Four(values + 4);
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v) {
            dots[r][v] = _mm512_dpbusd_epi32(dots[r][v], AddCodes(a, high[v]), AddCodes(b, low[v]));
          }
        }
      }
      if (g == 0) break;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Int crosses = SetInt(static_cast<int>(rows[r]->crosses));
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          dots[r][v] = AddInt(LowAboveHigh(dots[r][v], codes.Start(v)), crosses);
        }
      }
    }
    codes.MakeSums();
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Int scales = ScalesOf<W4>(pair, 0, v), minimums = ScalesOf<W4>(pair, 1, v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Int x = codes.Halves(v, dots[r][v]);
        c[r][v] = AddMinimums(AddScaled(c[r][v], x, scales, *rows[r]), minimums, *rows[r]);
      }
    }
  }
  if (const uint32_t missing = centred & ~chunk.made) {
    MakeReadyFactors(missing, first, ready, chunk);
  }
  AddCentresOf<R, V>(centred, chunk, in, row_bytes, c);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if (first + count < chunk.pairs) {
        StoreInt(sums + (r * V + v) * 64, c[r][v]);
        continue;
      }
      float* const out = tile + r * kStrip + v * kLanes;
      Store(out, AddChunk(c[r][v], Load(chunk.units + v * kLanes), *units[r],
                          chunk.is_first ? Zero() : Load(out)));
    }
  }
  fetch = ahead;
}

/// From kFewest rows on.
template <int kFewest>
void WinogradStrip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in,
                   int rows, const Ahead& ahead, float* tile) {
  if (rows < kFewest) return Int8Strip<W4>(strip, layout, in, rows, ahead, tile);
  const int many = rows / kWinogradRows * kWinogradRows;
  FetchAhead fetch(
      ahead, PairsOf(layout.groups()) * (2 * many / kWinogradRows + FetchesAPair<W4>(rows - many)));
  ReadyPairs ready;
  alignas(64) std::byte sums[kTileRows][kVectorsPerStrip][64];
  const auto compute = [&](auto& chunk, int index, const std::byte* chunk_in, const auto& units) {
    const int stretches = (chunk.pairs + kReadyPairs - 1) / kReadyPairs;
    const int stretch = (chunk.pairs + stretches - 1) / stretches;
    for (int first = 0; first < chunk.pairs; first += stretch) {
      const int count = chunk.pairs - first < stretch ? chunk.pairs - first : stretch;
      const uint32_t pairs = ((uint32_t{1} << count) - 1) << first;
      for (int row = 0; row < many; row += kWinogradRows) {
        uint32_t centred = 0;
        for (int r = 0; r < kWinogradRows; ++r) centred |= CentredPairs(units[row + r], index);
        const auto run = [&]<typename Codes>() {
          WinogradBlock<Codes>(chunk, first, count, ready, chunk_in + row * layout.row_bytes,
                               units + row, centred & pairs, layout.row_bytes, fetch, sums[row][0],
                               tile + row * kStrip);
        };
        row == 0 ? run.template operator()<CodesToMakeReady>()
                 : run.template operator()<CodesReady>();
      }
    }
    ChunkRows<W4>(chunk, index, many, rows, chunk_in, units, layout.row_bytes, fetch, tile);
  };
  ForChunks<W4>(strip, layout, in, rows, compute);
}

/// Blocks of many rows, as each makes a strip's codes ready anew.
template <int kFewest>
constexpr Int8Kernels kWinogradKernels = {{WinogradStrip<kFewest>, WinogradStrip<kFewest>,
                                           Int8Strip<W8>, Int8Strip<W8Min>, Int8Strip<W8Half>},
                                          kTileRows};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
