// Products of 4- and 8-bit weights with int8 activations on vector registers, for AVX2 and AVX-512.
// The sets differ in how products are summed (Dots below), in what their registers hold, and in how
// a group's products join an output's sum (the template argument Join).
//
// AVX-512's vpdpbusd adds four products of unsigned codes and signed activations to an int32.
// AVX2's vpmaddubsw makes pairs of products into int16; what fits one int16 sum is added there, so
// that vpmaddwd to int32 is needed once a group: of codes below 16 all 8 lines of a group
// (8 * 2 * 15 * 128 = 30720), of codes of at most 32 four lines (4 * 2 * 31 * 128 = 31744, and
// 4 * 2 * 32 * 127 = 32512 for signed ones: activations are never -128 where finite, and a group
// that is not finite has a NaN scale). Larger codes are split into nibbles.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_formats-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512)

/// Sums of one row of activations and one register of columns.
struct Dots {
  Int sum;
  /// Codes of line z.
  MODU_INLINE void Add(int, Int codes, Int a) { sum = _mm512_dpbusd_epi32(sum, codes, a); }
  /// Signed codes: their sign moves to the activation.
  MODU_INLINE void AddSigned(int z, Int codes, Int a) {
    const __mmask64 negative = _mm512_movepi8_mask(codes);
    Add(z, _mm512_abs_epi8(codes), _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a));
  }
  MODU_INLINE Int Total() const { return sum; }
};
template <typename Format>
using DotsOf = Dots;

/// Registers of columns at R rows: sums and results of R x V fit 32 registers.
template <typename Format>
constexpr int ColumnVectors(int rows) {
  return rows <= 6 ? 2 : 1;
}
/// Rows of the next block: 6, whose codes are read and unpacked once for both registers, but for
/// ends that would leave a row or two to themselves.
constexpr int kMostRows = 8;
constexpr int NextRows(int left) {
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
constexpr bool MakesFacts(int) { return true; }

#else

MODU_INLINE Int AddPairs(Int sum, Int codes, Int a) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, a));
  asm("" : "+x"(sum));  // GCC would make trees of these sums and spill all their products
  return sum;
}

/// What fits one int16 sum.
struct Dots {
  Int pairs;
  MODU_INLINE void Add(int, Int codes, Int a) { pairs = AddPairs(pairs, codes, a); }
  MODU_INLINE void AddSigned(int z, Int codes, Int a) {
    Add(z, _mm256_abs_epi8(codes), _mm256_sign_epi8(a, codes));
  }
  MODU_INLINE Int Total() const { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
};

/// What fits two: lines 0 to 3 and 4 to 7.
struct HalvesDots {
  Dots half[2];
  MODU_INLINE void Add(int z, Int codes, Int a) { half[z / 4].Add(z, codes, a); }
  MODU_INLINE Int Total() const { return _mm256_add_epi32(half[0].Total(), half[1].Total()); }
};

/// Any 8-bit code.
struct SplitDots {
  Int low, high;
  MODU_INLINE void Add(int, Int codes, Int a) {
    low = AddPairs(low, LowNibbles(codes), a);
    high = AddPairs(high, HighNibbles(codes), a);
  }
  MODU_INLINE Int Total() const {
    return _mm256_add_epi32(_mm256_madd_epi16(low, _mm256_set1_epi16(1)),
                            _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
  }
};

template <typename Format>
struct DotsOfFormat {
  using Type = Dots;
};
template <>
struct DotsOfFormat<W8F16> {
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
constexpr int kMostRows = 4;
constexpr int NextRows(int left) { return left < kMostRows ? left : kMostRows; }
/// A walk of more rows has no registers left to make facts in.
constexpr bool MakesFacts(int rows) { return rows <= 2; }

#endif

/// Four consecutive activations, once for each column of a register.
MODU_INLINE Int Four(const int8_t* p) {
  int bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return SetInt(bytes);
}

/// dots += products of a group of nibbles, R rows x V registers of columns from `vector` on.
template <int R, int V, typename Row, typename D>
MODU_INLINE void AddNibbles(const std::byte* group, int vector, const Row* const (&rows)[R],
                            D (&dots)[R][V]) {
#pragma GCC unroll 4
  for (int z = 0; z < 4; ++z) {
    Int low[V], high[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int x = LoadCodes(CodesAt<256>(group, vector + v, z));
      low[v] = LowNibbles(x);
      high[v] = HighNibbles(x);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int8_t* values = rows[r]->values + 8 * z;
      const Int a = Four(values), b = Four(values + 4);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        dots[r][v].Add(z, low[v], a);
        dots[r][v].Add(z, high[v], b);
      }
    }
  }
}

/// dots += products of lines [first, last) of a group of bytes.
template <typename Format, int R, int V, typename Row, typename D>
MODU_INLINE void AddBytes(const std::byte* group, int vector, int first, int last,
                          const Row* const (&rows)[R], D (&dots)[R][V]) {
#pragma GCC unroll 8
  for (int z = first; z < last; ++z) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Int x = LoadCodes(CodesAt<512>(group, vector + v, z));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Int a = Four(rows[r]->values + 4 * z);
        if constexpr (Format::kSigned) {
          dots[r][v].AddSigned(z, x, a);
        } else {
          dots[r][v].Add(z, x, a);
        }
      }
    }
  }
}

/// Joins one group to the sums of R rows x V registers of columns, the first of them `vector`.
template <typename Format, typename Join, bool kMakeFacts, int R, int V>
MODU_INLINE void JoinGroup(const std::byte* group, typename Join::Facts& facts, int vector,
                           const typename Join::Row* const (&rows)[R], Float (&c)[R][V]) {
#pragma GCC unroll 2
  for (int part = 0; part < Format::kParts; ++part) {
    DotsOf<Format> dots[R][V] = {};
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) Join::template Begin<Format>(*rows[r], dots[r][v]);
    }
    if constexpr (Format::kNibbles) {
      AddNibbles<R, V>(group, vector, rows, dots);
    } else {
      constexpr int kLines = 8 / Format::kParts;
      AddBytes<Format, R, V>(group, vector, part * kLines, (part + 1) * kLines, rows, dots);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if constexpr (kMakeFacts) Join::template MakeFacts<Format>(group, vector + v, facts);
      const auto columns = Join::template Load<Format>(group, part, vector + v, facts);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        c[r][v] = Join::template Add<Format>(c[r][v], dots[r][v].Total(), columns, *rows[r]);
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

  MODU_INLINE void Fetch() {
    for (int i = 0; i < lines_a_group && line < end; ++i, line += 64) {
      __builtin_prefetch(line, 0, 2);
    }
  }
};

/// Some groups of a strip: what is made of them, and one block's activations, fit L1.
constexpr int kGroupsAtOnce = 64;
template <typename Join>
struct Chunk {
  const std::byte* group;  // the first
  int groups;
  bool is_first;  // of the strip; else `tile` holds the sums so far
  typename Join::Facts facts[kGroupsAtOnce];
};

template <typename Format, typename Join>
void MakeFacts(Chunk<Join>& chunk) {
  const std::byte* group = chunk.group;
  for (int g = 0; g < chunk.groups; ++g, group += Format::kGroupBytes) {
    for (int vector = 0; vector < kVectorsPerStrip; ++vector) {
      Join::template MakeFacts<Format>(group, vector, chunk.facts[g]);
    }
  }
}

template <typename Format, typename Join, bool kMakeFacts, int R>
void Block(Chunk<Join>& chunk, const std::byte* in, int64_t row_bytes, FetchAhead& fetch,
           float* tile) {
  constexpr int V = ColumnVectors<Format>(R);
  FetchAhead ahead = fetch;  // in registers
  for (int vector = 0; vector < kVectorsPerStrip; vector += V) {
    Float c[R][V] = {};
    const typename Join::Row* rows[R];
    for (int r = 0; r < R; ++r) {
      rows[r] = reinterpret_cast<const typename Join::Row*>(in + r * row_bytes);
    }
    if (!chunk.is_first) {
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) c[r][v] = Load(tile + r * kStrip + (vector + v) * kLanes);
      }
    }
    const std::byte* group = chunk.group;
    for (int g = 0; g < chunk.groups; ++g, group += Format::kGroupBytes) {
      ahead.Fetch();
      JoinGroup<Format, Join, kMakeFacts, R, V>(group, chunk.facts[g], vector, rows, c);
      for (auto& row : rows) ++row;
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) Store(tile + r * kStrip + (vector + v) * kLanes, c[r][v]);
    }
  }
  fetch = ahead;
}

/// Block of `rows` rows, 1 to R.
template <typename Format, typename Join, bool kMakeFacts, int R>
void AnyBlock(int rows, Chunk<Join>& chunk, const std::byte* in, int64_t row_bytes,
              FetchAhead& fetch, float* tile) {
  if constexpr (R > 1) {
    if (rows < R) {
      constexpr int kFewer = R == 8 ? 6 : R - 1;
      return AnyBlock<Format, Join, kMakeFacts, kFewer>(rows, chunk, in, row_bytes, fetch, tile);
    }
  }
  Block<Format, Join, kMakeFacts, R>(chunk, in, row_bytes, fetch, tile);
}

template <typename Format, typename Join>
void Int8Strip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in, int rows,
               const Ahead& ahead, float* tile) {
  const auto groups = static_cast<int>(layout.groups());
  int64_t fetches = 0;  // calls of Fetch
  for (int row = 0; row < rows;) {
    const int block = NextRows(rows - row);
    fetches += groups * (kVectorsPerStrip / ColumnVectors<Format>(block));
    row += block;
  }
  FetchAhead fetch = {ahead.data, ahead.data + ahead.bytes,
                      static_cast<int>((ahead.bytes / 64 + fetches - 1) / fetches)};
  Chunk<Join> chunk;
  constexpr bool kMakeFacts = Join::template kHasFacts<Format>;
  for (int first = 0; first < groups; first += kGroupsAtOnce) {
    chunk.group = strip + first * Format::kGroupBytes;
    chunk.groups = groups - first < kGroupsAtOnce ? groups - first : kGroupsAtOnce;
    chunk.is_first = first == 0;
    if constexpr (kMakeFacts) {
      if (!MakesFacts(rows)) MakeFacts<Format>(chunk);
    }
    const std::byte* const from = in + first * static_cast<int64_t>(sizeof(typename Join::Row));
    for (int row = 0; row < rows;) {
      const int block = NextRows(rows - row);
      const std::byte* const rows_in = from + row * layout.row_bytes;
      float* const rows_tile = tile + row * kStrip;
      if (kMakeFacts && MakesFacts(rows) && row == 0) {
        AnyBlock<Format, Join, kMakeFacts, kMostRows>(block, chunk, rows_in, layout.row_bytes,
                                                      fetch, rows_tile);
      } else {
        AnyBlock<Format, Join, false, kMostRows>(block, chunk, rows_in, layout.row_bytes, fetch,
                                                 rows_tile);
      }
      row += block;
    }
  }
}

template <typename Join>
constexpr Int8Kernels kInt8Kernels = {
    {Int8Strip<W4F16, Join>, Int8Strip<W4F32, Join>, Int8Strip<W8F16, Join>, Int8Strip<W8Min, Join>,
     Int8Strip<W8Half, Join>},
    Join::kActivations};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
