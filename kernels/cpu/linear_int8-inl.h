// Products of 4- and 8-bit weights with int8 activations on vector registers, for AVX2 and AVX-512.
// The sets differ in how products are summed (Dots below) and in what their registers hold.
//
// AVX-512's vpdpbusd adds four products of unsigned codes and signed activations to an int32.
// AVX2's vpmaddubsw makes pairs of products into int16; what fits one int16 sum is added there, so
// that vpmaddwd to int32 is needed once a group: of codes below 16 all 8 lines of a group
// (8 * 2 * 15 * 120 = 28800), of codes of at most 32 four lines (4 * 2 * 32 * 120 = 30720). Larger
// codes are split into nibbles.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_join-inl.h"
#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512)

/// Sums of one row of activations and one register of columns, from a number that Start and Total
/// are both told.
struct Dots {
  Int sum;
  static MODU_INLINE Dots Start(Int from) { return {from}; }
  /// Codes of line z.
  MODU_INLINE void Add(int, Int codes, Int a) { sum = _mm512_dpbusd_epi32(sum, codes, a); }
  /// Signed codes: their sign moves to the activation.
  MODU_INLINE void AddSigned(int z, Int codes, Int a) {
    const __mmask64 negative = _mm512_movepi8_mask(codes);
    Add(z, _mm512_abs_epi8(codes), _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a));
  }
  MODU_INLINE Int Total(Int) const { return sum; }
};
template <typename Format>
using DotsOf = Dots;

/// Registers of columns at R rows: sums and results of R x V fit 32 registers; wider codes have one
/// group's sums besides.
template <typename Format>
constexpr int ColumnVectors(int rows) {
  return rows <= 6 ? 2 : 1;
}
/// Rows of the next block, whose codes are read once for both registers: of nibbles 6, but for ends
/// that would leave a row or two to themselves. Of wider codes 4: with one register each product
/// loads an activation of its own, and loads are no quicker than products.
template <typename Format>
constexpr int kMostRows = Format::kNibbles ? 8 : 4;
template <typename Format>
constexpr int NextRows(int left) {
  if (!Format::kNibbles) return left < 4 ? left : 4;
  switch (left) {
    case 7:
      return 4;
    case 8:
      return 8;
    case 13:
      return 5;
    default:
      return left < 6 ? left : 6;
  }
}

#else

MODU_INLINE Int AddPairs(Int sum, Int codes, Int a) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, a));
  asm("" : "+x"(sum));  // GCC would make trees of these sums and spill all their products
  return sum;
}

/// What fits one int16 sum.
struct Dots {
  Int pairs;
  static MODU_INLINE Dots Start(Int) { return {SetInt(0)}; }
  MODU_INLINE void Add(int, Int codes, Int a) { pairs = AddPairs(pairs, codes, a); }
  MODU_INLINE void AddSigned(int z, Int codes, Int a) {
    Add(z, _mm256_abs_epi8(codes), _mm256_sign_epi8(a, codes));
  }
  MODU_INLINE Int Total(Int from) const { return AddProducts(from, pairs, _mm256_set1_epi16(1)); }
};

/// What fits two: lines 0 to 3 and 4 to 7.
struct HalvesDots {
  Dots half[2];
  static MODU_INLINE HalvesDots Start(Int from) { return {{Dots::Start(from), Dots::Start(from)}}; }
  MODU_INLINE void Add(int z, Int codes, Int a) { half[z / 4].Add(z, codes, a); }
  MODU_INLINE Int Total(Int from) const { return half[1].Total(half[0].Total(from)); }
};

/// Any 8-bit code.
struct SplitDots {
  Int low, high;
  static MODU_INLINE SplitDots Start(Int) { return {SetInt(0), SetInt(0)}; }
  MODU_INLINE void Add(int, Int codes, Int a) {
    low = AddPairs(low, LowNibbles(codes), a);
    high = AddPairs(high, HighNibbles(codes), a);
  }
  MODU_INLINE Int Total(Int from) const {
    return AddProducts(AddProducts(from, low, _mm256_set1_epi16(1)), high, _mm256_set1_epi16(16));
  }
};

template <typename Format>
struct DotsOfFormat {
  using Type = Dots;
};
template <>
struct DotsOfFormat<W8> {
  using Type = SplitDots;
};
template <>
struct DotsOfFormat<W8Min> {
  using Type = HalvesDots;
};
template <typename Format>
using DotsOf = typename DotsOfFormat<Format>::Type;

/// Registers of columns at R rows: what fits 16 registers.
template <typename Format>
constexpr int ColumnVectors(int rows) {
  if (rows == 1) return 4;
  return rows == 2 || Format::kNibbles ? 2 : 1;
}
template <typename Format>
constexpr int kMostRows = 4;
template <typename Format>
constexpr int NextRows(int left) {
  return left < kMostRows<Format> ? left : kMostRows<Format>;
}

#endif

/// Four consecutive activations, once for each column of a register.
MODU_INLINE Int Four(const int8_t* p) {
  int bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return SetInt(bytes);
}

/// dots += products of group g of a pair of nibbles, R rows x V registers of columns from `vector`
/// on.
template <int R, int V, typename D>
MODU_INLINE void AddNibbles(const std::byte* codes, int g, int vector,
                            const Int8Pair* const (&rows)[R], D (&dots)[R][V]) {
#pragma GCC unroll 4
  for (int z = 0; z < 4; ++z) {
    Int low[V], high[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int x = LoadCodes(CodesAt<256>(codes, vector + v, z));
      low[v] = LowNibbles(x);
      high[v] = HighNibbles(x);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int8_t* values = rows[r]->values + g * kGroup + 8 * z;
      const Int a = Four(values), b = Four(values + 4);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        dots[r][v].Add(z, low[v], a);
        dots[r][v].Add(z, high[v], b);
      }
    }
  }
}

/// dots += products of lines [first, last) of group g of a pair of bytes.
template <typename Format, int R, int V, typename D>
MODU_INLINE void AddBytes(const std::byte* codes, int g, int vector, int first, int last,
                          const Int8Pair* const (&rows)[R], D (&dots)[R][V]) {
#pragma GCC unroll 8
  for (int z = first; z < last; ++z) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int x = LoadCodes(CodesAt<512>(codes, vector + v, z));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Int a = Four(rows[r]->values + g * kGroup + 4 * z);
        if constexpr (Format::kSigned) {
          dots[r][v].AddSigned(z, x, a);
        } else {
          dots[r][v].Add(z, x, a);
        }
      }
    }
  }
}

/// Fetches what is ahead while a strip is in hand, a few lines each group of each walk, so that
/// memory is read as long as the processor computes.
struct FetchAhead {
  const std::byte* line;  // to fetch next
  const std::byte* end;
  int lines_a_group;
  const std::byte* pieces_from;
  const int64_t* piece;  // behind `end`
  const int64_t* pieces_end;

  FetchAhead(const Ahead& ahead, int64_t calls)
      : line(ahead.data),
        end(ahead.data + ahead.bytes),
        pieces_from(ahead.pieces.from),
        piece(ahead.pieces.at.data()),
        pieces_end(piece + ahead.pieces.at.size()) {
    const int64_t bytes = ahead.bytes + static_cast<int64_t>(ahead.pieces.at.size()) * kFetchPiece;
    lines_a_group = static_cast<int>((bytes / 64 + calls - 1) / calls);
  }

  MODU_INLINE void Fetch() {
    for (int i = 0; i < lines_a_group; ++i, line += 64) {
      if (line >= end) [[unlikely]] {
        if (piece == pieces_end) return;
        line = pieces_from + *piece++;
        end = line + kFetchPiece;
      }
      __builtin_prefetch(line, 0, 2);
    }
  }
};

/// x = one part's products of both groups, in halves, for R rows x V registers of columns.
template <typename Format, int R, int V>
MODU_INLINE void PairDots(const std::byte* pair, int part, int vector,
                          const Int8Pair* const (&rows)[R], FetchAhead& ahead, Int (&x)[R][V]) {
  using D = DotsOf<Format>;
  D dots[R][V];
  if constexpr (Format::kNibbles) {  // one chain of sums
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) dots[r][v] = D::Start(SetInt(0));
    }
    ahead.Fetch();
    AddNibbles<R, V>(CodesOf<Format>(pair, 1), 1, vector, rows, dots);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Int second = dots[r][v].Total(SetInt(0));
        x[r][v] = AddInt(ShiftUp<16>(second), SetInt(rows[r]->begins()));
        dots[r][v] = D::Start(x[r][v]);
      }
    }
    ahead.Fetch();
    AddNibbles<R, V>(CodesOf<Format>(pair, 0), 0, vector, rows, dots);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) x[r][v] = SplitHalves(dots[r][v].Total(x[r][v]));
    }
  } else {
    constexpr int kLines = 8 / Format::kParts;
    Int totals[2][R][V];
#pragma GCC unroll 2
    for (int g = 1; g >= 0; --g) {
      const auto from = [&](int r) {
        return BeginOf<Format>(g == 0 ? rows[r]->first_begin() : rows[r]->second_begin());
      };
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) dots[r][v] = D::Start(from(r));
      }
      ahead.Fetch();
      AddBytes<Format, R, V>(CodesOf<Format>(pair, g), g, vector, part * kLines,
                             (part + 1) * kLines, rows, dots);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) totals[g][r][v] = dots[r][v].Total(from(r));
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        x[r][v] = JoinDots<Format>(totals[0][r][v], totals[1][r][v]);
      }
    }
  }
}

/// Joins a pair to the sums of R rows x V registers of columns, the first of them `vector`.
template <typename Format, int R, int V>
MODU_INLINE void JoinPair(const std::byte* pair, int vector, const Int8Pair* const (&rows)[R],
                          FetchAhead& ahead, Int (&c)[R][V]) {
#pragma GCC unroll 2
  for (int part = 0; part < Format::kParts; ++part) {
    Int x[R][V];
    PairDots<Format, R, V>(pair, part, vector, rows, ahead, x);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int scales = ScalesOf<Format>(pair, part, vector + v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) c[r][v] = AddScaled(c[r][v], x[r][v], scales, *rows[r]);
    }
  }
  if constexpr (Format::kMin) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int minimums = ScalesOf<Format>(pair, Format::kParts, vector + v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) c[r][v] = AddMinimums(c[r][v], minimums, *rows[r]);
    }
  }
}

/// Some pairs of a strip, whose sums are whole numbers.
template <typename Format>
struct Chunk {
  const float* units;     // of the outputs
  const std::byte* pair;  // the first
  int pairs;
  bool is_first;  // of the strip; else `tile` holds the sums so far
  /// CentreFactors of the pairs in `made`: of those that a row with a centre has met.
  uint32_t made;
  alignas(64) std::byte factors[kChunkPairs][Format::kParts][4 * kStrip];

  const std::byte* PairAt(int p) const { return pair + p * PairBytes(Format::kFormat); }
};

/// A function of its own, so that it leaves the registers of the products' loop alone.
template <typename Format>
[[gnu::noinline]] void MakeFactors(const std::byte* pair, int p, Chunk<Format>& chunk) {
  for (int part = 0; part < Format::kParts; ++part) {
    for (int v = 0; v < kVectorsPerStrip; ++v) {
      StoreInt(chunk.factors[p][part] + 4 * kLanes * v, CentreFactors<Format>(pair, part, v));
    }
  }
  chunk.made |= uint32_t{1} << p;
}

/// centred: bit p where pair p of a row has a centre.
template <typename Format, int R>
void Block(Chunk<Format>& chunk, const std::byte* in, const float* const (&row_units)[R],
           uint32_t centred, int64_t row_bytes, FetchAhead& fetch, float* tile) {
  constexpr int V = ColumnVectors<Format>(R);
  FetchAhead ahead = fetch;  // in registers
  for (int vector = 0; vector < kVectorsPerStrip; vector += V) {
    Int c[R][V];
    const Int8Pair* rows[R];
    for (int r = 0; r < R; ++r) {
      rows[r] = reinterpret_cast<const Int8Pair*>(in + r * row_bytes);
      for (int v = 0; v < V; ++v) c[r][v] = SetInt(0);
    }
    const std::byte* pair = chunk.pair;
    for (int p = 0; p < chunk.pairs; ++p, pair += PairBytes(Format::kFormat)) {
      JoinPair<Format, R, V>(pair, vector, rows, ahead, c);
      if ((centred >> p & 1) != 0) {
        if ((chunk.made >> p & 1) == 0) [[unlikely]] {
          Int saved[R][V];  // c itself stays in registers for the other pairs
          __builtin_memcpy(saved, c, sizeof(c));
          MakeFactors(pair, p, chunk);
          __builtin_memcpy(c, saved, sizeof(c));
        }
        for (int part = 0; part < Format::kParts; ++part) {
          for (int v = 0; v < V; ++v) {
            const Int factors = LoadCodes(chunk.factors[p][part] + 4 * kLanes * (vector + v));
            for (int r = 0; r < R; ++r) c[r][v] = AddCentres(c[r][v], factors, *rows[r]);
          }
        }
      }
      for (auto& row : rows) ++row;
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        float* const out = tile + r * kStrip + (vector + v) * kLanes;
        Store(out, AddChunk(c[r][v], Load(chunk.units + (vector + v) * kLanes), *row_units[r],
                            chunk.is_first ? Zero() : Load(out)));
      }
    }
  }
  fetch = ahead;
}

/// Block of `rows` rows, 1 to R, of chunk number `index`; units: RowUnit of each row.
template <typename Format, int R>
void AnyBlock(int rows, Chunk<Format>& chunk, int index, const std::byte* in,
              const float* const* units, int64_t row_bytes, FetchAhead& fetch, float* tile) {
  if constexpr (R > 1) {
    if (rows < R) {
      return AnyBlock<Format, R - 1>(rows, chunk, index, in, units, row_bytes, fetch, tile);
    }
  }
  const float* of_rows[R];
  uint32_t centred = 0;
  for (int r = 0; r < R; ++r) {
    of_rows[r] = units[r];
    centred |= CentredPairs(units[r], index);
  }
  Block<Format, R>(chunk, in, of_rows, centred, row_bytes, fetch, tile);
}

/// Calls of Fetch that rows take for each pair.
template <typename Format>
int64_t FetchesAPair(int rows) {
  int64_t fetches = 0;
  for (int row = 0; row < rows;) {
    const int block = NextRows<Format>(rows - row);
    fetches += 2 * Format::kParts * (kVectorsPerStrip / ColumnVectors<Format>(block));
    row += block;
  }
  return fetches;
}

/// Rows [row, end) of a chunk of number `index`; in, units, tile: of row 0.
template <typename Format>
void ChunkRows(Chunk<Format>& chunk, int index, int row, int end, const std::byte* in,
               const float* const* units, int64_t row_bytes, FetchAhead& fetch, float* tile) {
  while (row < end) {
    const int block = NextRows<Format>(end - row);
    AnyBlock<Format, kMostRows<Format>>(block, chunk, index, in + row * row_bytes, units + row,
                                        row_bytes, fetch, tile + row * kStrip);
    row += block;
  }
}

/// compute(chunk, its number, row 0 at its first pair, the rows' units) for each chunk of a strip.
template <typename Format, typename Compute>
MODU_INLINE void ForChunks(const std::byte* strip, const PreparedLayout& layout,
                           const std::byte* in, int rows, const Compute& compute) {
  const auto pairs = static_cast<int>(PairsOf(layout.groups()));
  const float* units[kTileRows];
  for (int r = 0; r < rows; ++r) units[r] = RowUnit(layout, in + r * layout.row_bytes);
  Chunk<Format> chunk;
  const std::byte* from = strip;
  for (int index = 0; index * kChunkPairs < pairs; ++index) {
    const int first = index * kChunkPairs;
    chunk.units = reinterpret_cast<const float*>(from);
    chunk.pair = from + kUnitsBytes;
    chunk.pairs = pairs - first < kChunkPairs ? pairs - first : kChunkPairs;
    chunk.is_first = first == 0;
    from = chunk.pair + chunk.pairs * PairBytes(Format::kFormat);
    chunk.made = 0;
    compute(chunk, index, in + first * static_cast<int64_t>(sizeof(Int8Pair)), units);
  }
}

template <typename Format>
void Int8Strip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in, int rows,
               const Ahead& ahead, float* tile) {
  FetchAhead fetch(ahead, PairsOf(layout.groups()) * FetchesAPair<Format>(rows));
  ForChunks<Format>(strip, layout, in, rows,
                    [&](auto& chunk, int index, const std::byte* chunk_in, const auto& units) {
                      ChunkRows<Format>(chunk, index, 0, rows, chunk_in, units, layout.row_bytes,
                                        fetch, tile);
                    });
}

constexpr Int8Kernels kInt8Kernels = {
    {Int8Strip<W4>, Int8Strip<W4>, Int8Strip<W8>, Int8Strip<W8Min>, Int8Strip<W8Half>}};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
