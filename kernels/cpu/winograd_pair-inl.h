// One pair of groups of a block of linear_int8_winograd-inl.h: four rows, two registers of columns.
// In assembly, and in intrinsics for the emulation in tests. What GCC 12 makes of the intrinsics
// takes 17.1 cycles for a row and register where the assembly takes 15.9 and the pipes' slots come
// to 15 (benchmarks/results/2026-11-29-zen4-winograd-2.md). Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/linear_int8-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Rows of a block: with two registers of columns what is summed, what it joins and the codes
/// leave a few registers.
constexpr int kWinogradRows = 4;
static_assert(kVectorsPerStrip == 2);

/// A pair's codes as they are added to activations, and what the columns' sums S of (h + 128) l
/// take off. S is that of 16 inputs, from -17,280 to 15,120: 2^15 - S is neither negative nor above
/// 2^16.
struct ReadyPair {
  /// [group][line][register]: h + 128, and l.
  alignas(64) std::byte codes[2][4][kVectorsPerStrip][2][64];
  /// 2^15 - S of the first group, in the high half.
  alignas(64) std::byte start[kVectorsPerStrip][64];
  /// Added in halves at the end: - S of the second group in the high one; the low one is what
  /// SplitHalves turns.
  alignas(64) std::byte rest[kVectorsPerStrip][64];
};

#if defined(MODU_VECTOR_EMULATED)

/// c (+)= a pair whose codes are ready; scales: ScalesOf its part 0. in: row 0 at the pair.
inline void JoinReadyPair(const ReadyPair& ready, const std::byte* scales, const std::byte* in,
                          int64_t row_bytes, Int (&c)[kWinogradRows][kVectorsPerStrip]) {
  for (int r = 0; r < kWinogradRows; ++r, in += row_bytes) {
    const Int8Pair& row = *reinterpret_cast<const Int8Pair*>(in);
    for (int v = 0; v < kVectorsPerStrip; ++v) {
      const Int start = LoadCodes(ready.start[v]);
      Int dots = start;
      for (int g = 1; g >= 0; --g) {
        for (int z = 0; z < 4; ++z) {
          const int8_t* const values = row.values + g * kGroup + 8 * z;
          const auto& codes = ready.codes[g][z][v];
          dots = _mm512_dpbusd_epi32(dots, AddCodes(Four(values), LoadCodes(codes[0])),
                                     AddCodes(Four(values + 4), LoadCodes(codes[1])));
        }
        if (g == 0) break;
        const Int both = OrBits(ShiftUp<16>(dots), _mm512_srli_epi32(start, 16));
        dots = AddInt(both, SetInt(static_cast<int>(row.crosses)));
      }
      const Int x = _mm512_add_epi16(dots, LoadCodes(ready.rest[v]));
      c[r][v] = AddScaled(c[r][v], x, LoadCodes(scales + 64 * v), row);
      c[r][v] = AddMinimums(c[r][v], LoadCodes(scales + kScalesBytes + 64 * v), row);
    }
  }
}

#else

// Registers: 8 to 15 the dot products of row r and register v at 8 + 2 r + v, 16 and 17 start,
// 18 to 21 a line's codes, 22 and 23 activations or factors of a row, 24 and 25 sums.
#define MODU_ROW_0 "(%[in])"
#define MODU_ROW_1 "(%[in],%[step])"
#define MODU_ROW_2 "(%[in],%[step],2)"
#define MODU_ROW_3 "(%[in],%[step3])"
#define MODU_LOAD(at, to) "vmovdqa64 %c[" at "](%[ready]), %%zmm" to "\n\t"
// dots += (a + high) (b + low)
#define MODU_ADD(high, low, dots)                    \
  "vpaddb %%zmm22, %%zmm" high ", %%zmm24\n\t"       \
  "vpaddb %%zmm23, %%zmm" low ", %%zmm25\n\t"        \
  "vpdpbusd %%zmm25, %%zmm24, %%zmm" dots "\n\t"
#define MODU_VALUES(at, row, first, second)          \
  "vpbroadcastd " at "+" row ", %%zmm22\n\t"         \
  "vpbroadcastd " at "+4+" row ", %%zmm23\n\t"       \
  MODU_ADD("18", "19", first) MODU_ADD("20", "21", second)
// Line z of a group: at its codes, at its activations.
#define MODU_LINE(codes, values)                       \
  "vmovdqa64 " codes "(%[ready]), %%zmm18\n\t"         \
  "vmovdqa64 64+" codes "(%[ready]), %%zmm19\n\t"      \
  "vmovdqa64 128+" codes "(%[ready]), %%zmm20\n\t"     \
  "vmovdqa64 192+" codes "(%[ready]), %%zmm21\n\t"     \
  MODU_VALUES(values, MODU_ROW_0, "8", "9")            \
  MODU_VALUES(values, MODU_ROW_1, "10", "11")          \
  MODU_VALUES(values, MODU_ROW_2, "12", "13")          \
  MODU_VALUES(values, MODU_ROW_3, "14", "15")
// The low halves above start's high ones, and what the row takes off.
#define MODU_CROSS(row, first, second)                                     \
  "vpshldd $16, %%zmm16, %%zmm" first ", %%zmm" first "\n\t"               \
  "vpshldd $16, %%zmm17, %%zmm" second ", %%zmm" second "\n\t"             \
  "vpbroadcastd %c[crosses]+" row ", %%zmm22\n\t"                          \
  "vpaddd %%zmm22, %%zmm" first ", %%zmm" first "\n\t"                     \
  "vpaddd %%zmm22, %%zmm" second ", %%zmm" second "\n\t"
#define MODU_START(dots, v) "vmovdqa64 %%zmm" v ", %%zmm" dots "\n\t"
// c += dots and the row's sums, by the scales in 18 and 20 and the minimums in 19 and 21.
#define MODU_SCALED(dots, rest, scales, minimums, c)                       \
  "vpaddw %%zmm" rest ", %%zmm" dots ", %%zmm" dots "\n\t"                 \
  "vpmulhrsw %%zmm22, %%zmm" dots ", %%zmm" dots "\n\t"                    \
  "vpdpwssd %%zmm" scales ", %%zmm" dots ", %[" c "]\n\t"                  \
  "vpdpwssd %%zmm" minimums ", %%zmm23, %[" c "]\n\t"
#define MODU_JOIN(row, first, second, c0, c1)                              \
  "vpbroadcastd %c[scales_at]+" row ", %%zmm22\n\t"                        \
  "vpbroadcastd %c[totals_at]+" row ", %%zmm23\n\t"                        \
  MODU_SCALED(first, "16", "18", "19", c0) MODU_SCALED(second, "17", "20", "21", c1)

MODU_INLINE void JoinReadyPair(const ReadyPair& ready, const std::byte* scales,
                               const std::byte* in, int64_t row_bytes,
                               Int (&c)[kWinogradRows][kVectorsPerStrip]) {
  static_assert(offsetof(ReadyPair, start) == 2048 && offsetof(ReadyPair, rest) == 2176);
  asm volatile(
      "vmovdqa64 2048(%[ready]), %%zmm16\n\tvmovdqa64 2112(%[ready]), %%zmm17\n\t"
      MODU_START("8", "16") MODU_START("9", "17") MODU_START("10", "16") MODU_START("11", "17")
      MODU_START("12", "16") MODU_START("13", "17") MODU_START("14", "16") MODU_START("15", "17")
      MODU_LINE("1024", "32") MODU_LINE("1280", "40") MODU_LINE("1536", "48")
      MODU_LINE("1792", "56")
      MODU_CROSS(MODU_ROW_0, "8", "9") MODU_CROSS(MODU_ROW_1, "10", "11")
      MODU_CROSS(MODU_ROW_2, "12", "13") MODU_CROSS(MODU_ROW_3, "14", "15")
      MODU_LINE("0", "0") MODU_LINE("256", "8") MODU_LINE("512", "16") MODU_LINE("768", "24")
      "vmovdqa64 2176(%[ready]), %%zmm16\n\tvmovdqa64 2240(%[ready]), %%zmm17\n\t"
      "vmovdqu64 (%[scales]), %%zmm18\n\tvmovdqu64 64(%[scales]), %%zmm20\n\t"
      "vmovdqu64 128(%[scales]), %%zmm19\n\tvmovdqu64 192(%[scales]), %%zmm21\n\t"
      MODU_JOIN(MODU_ROW_0, "8", "9", "c00", "c01") MODU_JOIN(MODU_ROW_1, "10", "11", "c10", "c11")
      MODU_JOIN(MODU_ROW_2, "12", "13", "c20", "c21")
      MODU_JOIN(MODU_ROW_3, "14", "15", "c30", "c31")
      : [c00] "+v"(c[0][0]), [c01] "+v"(c[0][1]), [c10] "+v"(c[1][0]), [c11] "+v"(c[1][1]),
        [c20] "+v"(c[2][0]), [c21] "+v"(c[2][1]), [c30] "+v"(c[3][0]), [c31] "+v"(c[3][1])
      : [ready] "r"(&ready), [scales] "r"(scales), [in] "r"(in), [step] "r"(row_bytes),
        [step3] "r"(3 * row_bytes), [crosses] "i"(offsetof(Int8Pair, crosses)),
        [scales_at] "i"(offsetof(Int8Pair, scales)), [totals_at] "i"(offsetof(Int8Pair, totals))
      : "memory", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",
        "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25");
}

#undef MODU_LOAD
#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
