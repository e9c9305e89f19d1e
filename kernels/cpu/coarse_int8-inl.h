// Products of a head's upper bits with int8 activations (coarse_head.h), for AVX2 and AVX-512.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/coarse_kernel.h"
#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kFifthBit = 16;

/// The fifth bit of line z of nibbles, in its place.
template <int kZ>
MODU_INLINE Int FifthBits(Int bits) {
  if constexpr (kZ < 4) {
    return AndBytes<kFifthBit>(ShiftHalvesUp<4 - kZ>(bits));
  } else {
    return AndBytes<kFifthBit>(ShiftHalvesDown<kZ - 4>(bits));
  }
}

/// dots += products of a group's lines 2j and 2j + 1, R rows x one register of columns; with kSums
/// also sum += the codes.
template <int kJ, bool kSums, int R, typename D>
MODU_INLINE void AddCoarseLines(const std::byte* half, Int fifth, int g,
                                const Int8Pair* const (&rows)[R], D (&dots)[R], D& sum) {
  const Int x = LoadCodes(half + 64 * kJ);
  const Int low = OrBits(LowNibbles(x), FifthBits<2 * kJ>(fifth));
  const Int high = OrBits(HighNibbles(x), FifthBits<2 * kJ + 1>(fifth));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const int8_t* const values = rows[r]->values + g * kGroup + 8 * kJ;
    dots[r].Add(2 * kJ, low, Four(values));
    dots[r].Add(2 * kJ + 1, high, Four(values + 4));
  }
  if constexpr (kSums) {
    sum.Add(2 * kJ, low, SetInt(0x01010101));
    sum.Add(2 * kJ + 1, high, SetInt(0x01010101));
  }
}

/// c += D times what a group's codes and activations come to, and reach += |D| times how far whole
/// codes can be from that, for R rows x one register.
template <bool kSums, int R>
MODU_INLINE void JoinCoarseGroup(const std::byte* half, Float scales, int g,
                                 const Int8Pair* const (&rows)[R],
                                 const CoarseGroup* const (&factors)[R], Float (&c)[R],
                                 Float (&reach)[R]) {
  using D = DotsOf<W8Min>;  // codes of at most 5 bits
  D dots[R], sum = D::Start(SetInt(0));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) dots[r] = D::Start(SetInt(0));
  const Int fifth = LoadCodes(half + 4 * 64);
  AddCoarseLines<0, kSums, R>(half, fifth, g, rows, dots, sum);
  AddCoarseLines<1, kSums, R>(half, fifth, g, rows, dots, sum);
  AddCoarseLines<2, kSums, R>(half, fifth, g, rows, dots, sum);
  AddCoarseLines<3, kSums, R>(half, fifth, g, rows, dots, sum);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const CoarseGroup& f = factors[r][g];
    Float y = Fma(ToFloat(dots[r].Total(SetInt(0))), Set(f.scale), Set(f.begin));
    if constexpr (kSums) y = Fma(ToFloat(sum.Total(SetInt(0))), Set(f.centre), y);
    c[r] = Fma(y, scales, c[r]);
    reach[r] = Fma(Max(scales, Sub(Zero(), scales)), Set(f.reach), reach[r]);
  }
}

/// Registers of columns side by side at R rows.
template <int R>
constexpr int kCoarseVectors = kLanes == 16 || R == 1 ? 2 : 1;

/// A row's products with a strip and how far whole ones can be from them, in units of the row.
struct CoarseTile {
  alignas(64) float product[kStrip] = {};
  alignas(64) float reach[kStrip] = {};
};

/// Adds a chunk of pairs: V registers of columns from `vector` on, R rows. centred: bit p where
/// pair p of a row has a centre.
template <int R, int V>
MODU_INLINE void AddCoarseChunk(const std::byte* chunk, int pairs, int64_t strip_bytes, int vector,
                                const Int8Pair* (&in)[R], const CoarseGroup* (&factors)[R],
                                uint32_t centred, const float (&rounding)[R],
                                CoarseTile (&tiles)[R]) {
  Float c[V][R], reach[V][R];
  for (int v = 0; v < V; ++v) {
    for (int r = 0; r < R; ++r) c[v][r] = reach[v][r] = Zero();
  }
  const std::byte* pair = chunk + kUnitsBytes;
  for (int p = 0; p < pairs; ++p, pair += kCoarsePairBytes) {
    for (int line = 0; line < kCoarsePairBytes; line += 64 * kVectorsPerStrip / V) {
      __builtin_prefetch(pair + strip_bytes + 64 * vector / V + line, 0, 2);
    }
    const bool with_centre = (centred >> p & 1) != 0;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const int column = (vector + v) * kLanes;
      const Int both = LoadCodes(pair + 4 * kCoarseHalfBytes + 4 * column);
      const Float scales[2] = {ToFloat(AddProducts(SetInt(0), both, SetInt(1))),
                               ToFloat(AddProducts(SetInt(0), both, SetInt(1 << 16)))};
      const std::byte* const at = pair + column / 16 * kCoarseHalfBytes + column % 16 * 4;
#pragma GCC unroll 2
      for (int g = 0; g < 2; ++g) {
        const std::byte* const half = at + 2 * g * kCoarseHalfBytes;
        if (with_centre) [[unlikely]] {
          JoinCoarseGroup<true, R>(half, scales[g], g, in, factors, c[v], reach[v]);
        } else {
          JoinCoarseGroup<false, R>(half, scales[g], g, in, factors, c[v], reach[v]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      ++in[r];
      factors[r] += 2;
    }
  }
  for (int v = 0; v < V; ++v) {
    const int column = (vector + v) * kLanes;
    const Float units = Load(reinterpret_cast<const float*>(chunk) + column);
    for (int r = 0; r < R; ++r) {
      float* const product = tiles[r].product + column;
      float* const far = tiles[r].reach + column;
      Store(product, Fma(c[v][r], units, Load(product)));
      Store(far, Fma(Add(reach[v][r], Set(rounding[r])), units, Load(far)));
    }
  }
}

template <int R>
MODU_INLINE void CoarseProducts(const std::byte* strip, int64_t groups, const CoarseRow* rows,
                                CoarseTile (&tiles)[R]) {
  constexpr int V = kCoarseVectors<R>;
  const auto pairs = static_cast<int>(PairsOf(groups));
  for (int vector = 0; vector < kVectorsPerStrip; vector += V) {
    const Int8Pair* in[R];
    const CoarseGroup* factors[R];
    float rounding[R];
    for (int r = 0; r < R; ++r) {
      in[r] = reinterpret_cast<const Int8Pair*>(rows[r].in);
      factors[r] = rows[r].groups;
      rounding[r] = rows[r].rounding;
    }
    const std::byte* chunk = strip + kCoarseHeadBytes;
    for (int index = 0; index * kChunkPairs < pairs; ++index) {
      const int left = pairs - index * kChunkPairs;
      const int some = left < kChunkPairs ? left : kChunkPairs;
      uint32_t centred = 0;
      for (int r = 0; r < R; ++r) centred |= CentredPairs(rows[r].unit, index);
      AddCoarseChunk<R, V>(chunk, some, CoarseStripBytes(groups), vector, in, factors, centred,
                           rounding, tiles);
      chunk += kUnitsBytes + some * kCoarsePairBytes;
    }
  }
}

template <int R>
void CoarseRows(const std::byte* strip, int64_t groups, std::span<const CoarseRow> rows,
                const CoarseResult& out) {
  if constexpr (R > 1) {
    if (rows.size() < R) return CoarseRows<R - 1>(strip, groups, rows, out);
  }
  CoarseTile tiles[R];
  CoarseProducts<R>(strip, groups, rows.data(), tiles);
  const auto* const lengths = reinterpret_cast<const float*>(strip);
  for (int r = 0; r < R; ++r) {
    Group best, upper;
    for (int column = 0; column < kStrip; column += kLanes) {
      const Float product = Load(tiles[r].product + column);
      // A hair more for the floats that the reach itself is of.
      const Float far =
          Mul(Load(lengths + column), Mul(Load(tiles[r].reach + column), Set(1.001f)));
      const Float above = Add(product, far);
      const int part = column % 16 / kLanes;
      best.part[part] = column < 16 ? product : Max(best.part[part], product);
      upper.part[part] = column < 16 ? above : Max(upper.part[part], above);
    }
    out.best[r * out.stride] = Max(best) * *rows[r].unit;
    out.upper[r * out.stride] = Max(upper) * *rows[r].unit;
  }
}

/// CoarseStripFn
void CoarseStrip(const std::byte* strip, int64_t groups, std::span<const CoarseRow> rows,
                 const CoarseResult& out) {
  CoarseRows<kMostCoarseRows>(strip, groups, rows, out);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
