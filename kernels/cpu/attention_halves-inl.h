// Exact products of int8 KV's codes (kernels/kv_codes.h) with whole numbers of 16 bits: codes are
// widened in registers, two to a dword. What attention over int8 KV is made of.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_pieces-inl.h"
#include "kernels/cpu/int8_lanes-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Codes lie so much larger than what they stand for.
constexpr int kMore = 128;

/// 16 floats to the nearest whole numbers, in their order.
MODU_INLINE __m256i RoundToHalves(const Group& x) {
#if defined(MODU_VECTOR_AVX512)
  const __m256 first = _mm512_castps512_ps256(x.part[0]);
  const __m256 last = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.part[0]), 1));
#else
  const __m256 first = x.part[0], last = x.part[1];
#endif
  const __m256i whole = _mm256_packs_epi32(_mm256_cvtps_epi32(first), _mm256_cvtps_epi32(last));
  return _mm256_permute4x64_epi64(whole, 0xD8);  // packs goes by 128 bits
}

#if defined(MODU_VECTOR_AVX512)
/// 32 of them.
MODU_INLINE Int PackHalves(const Group (&x)[2]) {
  const Int order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);  // packs goes by 128 bits
  return _mm512_permutexvar_epi64(order, _mm512_packs_epi32(_mm512_cvtps_epi32(x[0].part[0]),
                                                            _mm512_cvtps_epi32(x[1].part[0])));
}
#endif

/// 32 of them to `out`; the sums of their pairs join `sums`.
MODU_INLINE Int StoreHalves(const Group (&x)[2], std::byte* out, Int sums) {
  const Int ones = SetInt(0x00010001);
#if defined(MODU_VECTOR_AVX512)
  const Int halves = PackHalves(x);
  StoreInt(out, halves);
  return AddProducts(sums, halves, ones);
#else
  for (int i = 0; i < 2; ++i) {
    const __m256i halves = RoundToHalves(x[i]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i), halves);
    sums = AddProducts(sums, halves, ones);
  }
  return sums;
#endif
}

/// The sum of all lanes.
MODU_INLINE int32_t SumOf(__m256i x) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}
#if defined(MODU_VECTOR_AVX512)
MODU_INLINE int32_t SumOf(Int x) {
  return SumOf(_mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)));
}
#endif

/// sum += a x b by pairs of 16 bits, in place: Accumulate in vector-inl.h says why.
MODU_INLINE void AccumulatePairs(Int& sum, Int a, Int b) {
  sum = AddProducts(sum, a, b);
#if !defined(MODU_VECTOR_AVX512)
  asm("" : "+x"(sum));
#endif
}

/// The pair at p in all lanes.
MODU_INLINE Int PairAt(const std::byte* p) {
  int pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return SetInt(pair);
}

/// Rows whose sums are taken side by side, at most; and lines of 64 bytes.
constexpr int kMostRows = kParts == 2 ? 4 : 8;
constexpr int LinesSideBySide(int rows) { return kParts == 2 && rows > 2 ? 1 : 2; }
/// Lines of each, after which as many are fetched ahead.
constexpr int kFetchEvery = 4;

/// Sums of products of kRows rows of numbers with kLines lines of codes, four of each of 16 columns
/// in a line.
template <int kRows, int kLines>
struct HalvesSums {
  static constexpr int kRegisters = kLines * kParts;
  Int sum[kRows][kRegisters];

  /// totals: the sum of each row's numbers.
  explicit MODU_INLINE HalvesSums(const int32_t* totals) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Int start = SetInt(-kMore * totals[r]);
#pragma GCC unroll 4
      for (Int& x : sum[r]) x = start;
    }
  }

  /// Lines line_bytes apart, rows of numbers row_bytes.
  MODU_INLINE void Add(const std::byte* lines, int64_t line_bytes, const std::byte* numbers,
                       int64_t row_bytes) {
    Int even[kRegisters], odd[kRegisters];
#pragma GCC unroll 4
    for (int i = 0; i < kRegisters; ++i) {
      const std::byte* const at = lines + i / kParts * line_bytes + i % kParts * (4 * kLanes);
      const Int codes = LoadPairs(at);
      even[i] = And(codes, 0x00FF00FF);  // bytes 0 and 2 of four
      odd[i] = ShiftHalvesDown<8>(codes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::byte* const four = numbers + r * row_bytes;
      const Int first = PairAt(four), second = PairAt(four + 4);
#pragma GCC unroll 4
      for (int i = 0; i < kRegisters; ++i) {
        AccumulatePairs(sum[r][i], even[i], first);
        AccumulatePairs(sum[r][i], odd[i], second);
      }
    }
  }
};

/// run.operator()<n>(first row) for blocks of n <= kMostRows rows, as even as can be.
template <typename Run>
MODU_INLINE void ForRowBlocks(int rows, const Run& run) {
  const auto of = [&]<int kRows>(const auto& self, int n, int row) {
    if constexpr (kRows > 1) {
      if (n < kRows) return self.template operator()<kRows - 1>(self, n, row);
    }
    run.template operator()<kRows>(row);
  };
  int blocks = (rows + kMostRows - 1) / kMostRows;
  for (int row = 0; row < rows; --blocks) {
    const int n = (rows - row + blocks - 1) / blocks;
    of.template operator()<kMostRows>(of, n, row);
    row += n;
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
