// The two inner loops that attention spends its time in, for AVX2 and the tile shapes of most
// decode and prefill rows (3 rows x 32 lanes, 6 rows x 16 lanes), in assembly: 12 accumulators, two
// operands, a broadcast and a mask take all 16 registers, and GCC 12's allocation spills
// accumulators, which costs 45 to 80 % (measured on Zen 3; this form runs within 6 % of the FMA
// peak). Other shapes, and all of AVX-512 with its 32 registers, take the intrinsics in
// attention-inl.h; both forms give the same bits. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if defined(MODU_VECTOR_AVX512) || !defined(__x86_64__)

constexpr bool HasFastTile(int, int) { return false; }
template <bool kBf16, int kRows>
void ScoreTile(const float*, const std::byte*, int64_t, int64_t, int64_t, float*) {}
template <bool kBf16, int kRows>
void WeighTile(const float*, const std::byte*, int64_t, int64_t, int64_t, float*, int64_t) {}

#else

constexpr bool HasFastTile(int rows, int groups) {
  return (rows == 3 && groups == 2) || (rows == 6 && groups == 1);
}

// 16 lanes of a pair's first and second row into ymm12 and ymm13; ymm15 holds 0xFFFF0000 in each
// dword.
#define MODU_LOW_BF16(p)                   \
  "vmovdqu " p ", %%ymm12\n\tvmovdqu 32" p \
  ", %%ymm13\n\t"                          \
  "vpslld $16, %%ymm12, %%ymm12\n\tvpslld $16, %%ymm13, %%ymm13\n\t"
#define MODU_HIGH_BF16(p) "vpand " p ", %%ymm15, %%ymm12\n\tvpand 32" p ", %%ymm15, %%ymm13\n\t"
#define MODU_LOW_F32(p) "vmovups " p ", %%ymm12\n\tvmovups 32" p ", %%ymm13\n\t"
#define MODU_HIGH_F32(p) "vmovups 64" p ", %%ymm12\n\tvmovups 96" p ", %%ymm13\n\t"
// ymm a, b += x[offset] * (ymm12, ymm13)
#define MODU_ROW(offset, a, b)                                                      \
  "vbroadcastss " offset "(%[x]), %%ymm14\n\tvfmadd231ps %%ymm12, %%ymm14, %%ymm" a \
  "\n\t"                                                                            \
  "vfmadd231ps %%ymm13, %%ymm14, %%ymm" b "\n\t"

#define MODU_SIX_ROWS(o0, o1, o2, o3, o4, o5) \
  MODU_ROW(o0, "0", "1")                      \
  MODU_ROW(o1, "2", "3")                      \
  MODU_ROW(o2, "4", "5") MODU_ROW(o3, "6", "7") MODU_ROW(o4, "8", "9") MODU_ROW(o5, "10", "11")
#define MODU_THREE_ROWS_LEFT(o0, o1, o2) \
  MODU_ROW(o0, "0", "1") MODU_ROW(o1, "2", "3") MODU_ROW(o2, "4", "5")
#define MODU_THREE_ROWS_RIGHT(o0, o1, o2) \
  MODU_ROW(o0, "6", "7") MODU_ROW(o1, "8", "9") MODU_ROW(o2, "10", "11")

// A pair for six rows of one group; the first token's (dim's) factors at a0..a5, the second's at
// b0..b5.
#define MODU_SIX(type, a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5)                             \
  "prefetcht1 (%[p],%[ahead])\n\t" MODU_LOW_##type("(%[p])") MODU_SIX_ROWS(a0, a1, a2, a3, a4, a5) \
      MODU_HIGH_##type("(%[p])") MODU_SIX_ROWS(b0, b1, b2, b3, b4, b5)
// The same for three rows of two groups, the second at p + gap.
#define MODU_THREE(type, a0, a1, a2, b0, b1, b2)                                            \
  "prefetcht1 (%[p],%[ahead])\n\tprefetcht1 (%[p],%[ahead2])\n\t" MODU_LOW_##type("(%[p])") \
      MODU_THREE_ROWS_LEFT(a0, a1, a2) MODU_LOW_##type("(%[p],%[gap])")                     \
          MODU_THREE_ROWS_RIGHT(a0, a1, a2) MODU_HIGH_##type("(%[p])")                      \
              MODU_THREE_ROWS_LEFT(b0, b1, b2) MODU_HIGH_##type("(%[p],%[gap])")            \
                  MODU_THREE_ROWS_RIGHT(b0, b1, b2)

#define MODU_LOOP(body, x_step, p_step)                             \
  ".p2align 4\n1:\n\t" body "add $" x_step ", %[x]\n\tadd $" p_step \
  ", %[p]\n\t"                                                      \
  "dec %[n]\n\tjnz 1b\n\t"

#define MODU_ZERO                                                      \
  "vxorps %%xmm0, %%xmm0, %%xmm0\n\tvxorps %%xmm1, %%xmm1, %%xmm1\n\t" \
  "vxorps %%xmm2, %%xmm2, %%xmm2\n\tvxorps %%xmm3, %%xmm3, %%xmm3\n\t" \
  "vxorps %%xmm4, %%xmm4, %%xmm4\n\tvxorps %%xmm5, %%xmm5, %%xmm5\n\t" \
  "vxorps %%xmm6, %%xmm6, %%xmm6\n\tvxorps %%xmm7, %%xmm7, %%xmm7\n\t" \
  "vxorps %%xmm8, %%xmm8, %%xmm8\n\tvxorps %%xmm9, %%xmm9, %%xmm9\n\t" \
  "vxorps %%xmm10, %%xmm10, %%xmm10\n\tvxorps %%xmm11, %%xmm11, %%xmm11\n\t"

// Moves the accumulators to or from rows s bytes apart at o (s3 = 3s, s5 = 5s).
#define MODU_LOAD(m, r) "vmovups " m ", %%ymm" r "\n\t"
#define MODU_STORE(m, r) "vmovups %%ymm" r ", " m "\n\t"
#define MODU_EACH_SIX(op)                                                               \
  op("(%[o])", "0") op("32(%[o])", "1") op("(%[o],%[s])", "2") op("32(%[o],%[s])", "3") \
      op("(%[o],%[s],2)", "4") op("32(%[o],%[s],2)", "5") op("(%[o],%[s3])", "6")       \
          op("32(%[o],%[s3])", "7") op("(%[o],%[s],4)", "8") op("32(%[o],%[s],4)", "9") \
              op("(%[o],%[s5])", "10") op("32(%[o],%[s5])", "11")
#define MODU_EACH_THREE(op)                                                                       \
  op("(%[o])", "0") op("32(%[o])", "1") op("(%[o],%[s])", "2") op("32(%[o],%[s])", "3")           \
      op("(%[o],%[s],2)", "4") op("32(%[o],%[s],2)", "5") op("64(%[o])", "6") op("96(%[o])", "7") \
          op("64(%[o],%[s])", "8") op("96(%[o],%[s])", "9") op("64(%[o],%[s],2)", "10")           \
              op("96(%[o],%[s],2)", "11")

#define MODU_CLOBBERS                                                                             \
  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
      "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

#define MODU_RUN_SIX(begin, body, x_step, p_step)                                              \
  asm volatile("vmovd %[mask], %%xmm15\n\tvpbroadcastd %%xmm15, %%ymm15\n\t" begin MODU_LOOP(  \
                   body, x_step, p_step) MODU_EACH_SIX(MODU_STORE)                             \
               : [x] "+r"(x), [p] "+r"(p), [n] "+r"(n)                                         \
               : [ahead] "r"(ahead), [o] "r"(o), [s] "r"(s), [s3] "r"(3 * s), [s5] "r"(5 * s), \
                 [mask] "rm"(0xFFFF0000u)                                                      \
               : MODU_CLOBBERS)
#define MODU_RUN_THREE(begin, body, x_step, p_step)                                           \
  asm volatile("vmovd %[mask], %%xmm15\n\tvpbroadcastd %%xmm15, %%ymm15\n\t" begin MODU_LOOP( \
                   body, x_step, p_step) MODU_EACH_THREE(MODU_STORE)                          \
               : [x] "+r"(x), [p] "+r"(p), [n] "+r"(n)                                        \
               : [ahead] "r"(ahead), [ahead2] "r"(ahead + gap), [gap] "r"(gap), [o] "r"(o),   \
                 [s] "r"(s), [mask] "rm"(0xFFFF0000u)                                         \
               : MODU_CLOBBERS)

/// scores[r][lane] = sum over 2n dims of x[dim][r] * K[dim][lane]; score rows kScoreStride apart.
template <bool kBf16, int kRows>
MODU_INLINE void ScoreTile(const float* x, const std::byte* p, int64_t gap, int64_t n,
                           int64_t ahead, float* o) {
  const int64_t s = kScoreStride * 4;
  if constexpr (kRows == 6) {
#define MODU_SCORE_SIX(type) \
  MODU_SIX(type, "0", "4", "8", "12", "16", "20", "24", "28", "32", "36", "40", "44")
    if constexpr (kBf16) {
      MODU_RUN_SIX(MODU_ZERO, MODU_SCORE_SIX(BF16), "48", "64");
    } else {
      MODU_RUN_SIX(MODU_ZERO, MODU_SCORE_SIX(F32), "48", "128");
    }
  } else {
#define MODU_SCORE_THREE(type) MODU_THREE(type, "0", "4", "8", "12", "16", "20")
    if constexpr (kBf16) {
      MODU_RUN_THREE(MODU_ZERO, MODU_SCORE_THREE(BF16), "24", "64");
    } else {
      MODU_RUN_THREE(MODU_ZERO, MODU_SCORE_THREE(F32), "24", "128");
    }
  }
}

/// o[r][lane] += sum over 2n tokens of x[r][token] * V[token][lane]; rows of x kScoreStride apart.
template <bool kBf16, int kRows>
MODU_INLINE void WeighTile(const float* x, const std::byte* p, int64_t gap, int64_t n,
                           int64_t ahead, float* o, int64_t o_stride) {
  static_assert(kScoreStride * 4 == 1088);  // the offsets below
  const int64_t s = o_stride * 4;
  if constexpr (kRows == 6) {
#define MODU_WEIGH_SIX(type)                                                                       \
  MODU_SIX(type, "0", "1088", "2176", "3264", "4352", "5440", "4", "1092", "2180", "3268", "4356", \
           "5444")
    if constexpr (kBf16) {
      MODU_RUN_SIX(MODU_EACH_SIX(MODU_LOAD), MODU_WEIGH_SIX(BF16), "8", "64");
    } else {
      MODU_RUN_SIX(MODU_EACH_SIX(MODU_LOAD), MODU_WEIGH_SIX(F32), "8", "128");
    }
  } else {
#define MODU_WEIGH_THREE(type) MODU_THREE(type, "0", "1088", "2176", "4", "1092", "2180")
    if constexpr (kBf16) {
      MODU_RUN_THREE(MODU_EACH_THREE(MODU_LOAD), MODU_WEIGH_THREE(BF16), "8", "64");
    } else {
      MODU_RUN_THREE(MODU_EACH_THREE(MODU_LOAD), MODU_WEIGH_THREE(F32), "8", "128");
    }
  }
}

#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
