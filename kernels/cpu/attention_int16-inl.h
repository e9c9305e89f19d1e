// Attention over int8 KV (kernels/kv_codes.h) as it lies, for AVX2 and AVX-512 without dot products
// of bf16: codes are widened to 16 bits in registers, two to a dword, and multiplied with queries
// and probabilities that are rounded to 16 bits, with a scale for each row (and piece). Sums are
// exact. Against float32 products of bf16 KV two thirds of the instructions and half of the bytes.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_rows-inl.h"
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/kv_scale-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Sums of kMaxHeadDim products of codes with queries, and of kPieceTokens with probabilities, fit
/// 32 bits.
constexpr float kLargestQuery = 16383.0f, kLargestProbability = 32767.0f;
static_assert(double{127} * kLargestQuery * kMaxHeadDim < 0x1p31);
static_assert(double{127} * kLargestProbability * kPieceTokens < 0x1p31);
/// Probabilities below this are zeros: the reciprocal of a row's largest must be finite.
constexpr float kLeastProbability = 1e-30f;

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

/// Four codes in each dword as two dwords: bytes 0 and 2, and bytes 1 and 3, kMore larger than what
/// they stand for.
struct KeyHalves {
  static constexpr int kMore = 128;
  static MODU_INLINE void Of(Int codes, Int& even, Int& odd) {
    even = And(codes, 0x00FF00FF);
    odd = ShiftHalvesDown<8>(codes);
  }
};
#if defined(MODU_VECTOR_AVX512)
struct ValueHalves {
  static constexpr int kMore = 0;
  static MODU_INLINE void Of(Int codes, Int& even, Int& odd) {
    const Int magnitude = And(codes, 0x7F7F7F7F);
    const Int x = _mm512_mask_sub_epi8(magnitude, _mm512_movepi8_mask(codes),
                                       _mm512_setzero_si512(), magnitude);
    even = _mm512_srai_epi16(ShiftHalvesUp<8>(x), 8);
    odd = _mm512_srai_epi16(x, 8);
  }
};
#else
using ValueHalves = KeyHalves;
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
template <class Halves, int kRows, int kLines>
struct HalvesSums {
  static constexpr int kRegisters = kLines * kParts;
  Int sum[kRows][kRegisters];

  /// totals: the sum of each row's numbers.
  explicit MODU_INLINE HalvesSums(const int32_t* totals) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Int start = SetInt(-Halves::kMore * totals[r]);
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
      Halves::Of(LoadPairs(at), even[i], odd[i]);
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

/// 16 query rows: [quads of dims][16 rows][4] int16, dims of a quad in the order 0, 2, 1, 3; then
/// this.
struct QueryRows {
  float scale[kTileMaxRows];  // times log2(e)
  int32_t total[kTileMaxRows];
};
constexpr int64_t kQuadBytes = int64_t{kTileMaxRows} * 8;
constexpr int Quads(int head_dim) { return (head_dim + 3) / 4; }

/// The sum of eight.
MODU_INLINE int32_t SumOf(__m256i x) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}
/// The sums of pairs of sixteen.
MODU_INLINE __m256i SumPairs(__m256i x) { return _mm256_madd_epi16(x, _mm256_set1_epi16(1)); }

/// One row's first quad to `at`, the others kQuadBytes apart. A row that is not finite has the
/// scale NaN.
MODU_INLINE void PackQueryHalves(const float* q, int head_dim, std::byte* at, float* scale,
                                 int32_t* total) {
  const CodeScale of_row = ScaleOf(q, head_dim, kLargestQuery);
  const Float inverse = Set(of_row.inverse);
  __m256i sums = _mm256_setzero_si256();
  for (int d = 0; d < head_dim; d += 16) {
    alignas(64) float tail[16] = {};
    const bool whole = d + 16 <= head_dim;
    if (!whole) __builtin_memcpy(tail, q + d, static_cast<size_t>(head_dim - d) * sizeof(float));
    Group x = LoadGroup(whole ? q + d : tail);
    for (int i = 0; i < kParts; ++i) {
      x.part[i] = of_row.finite ? Mul(x.part[i], inverse) : Zero();
    }
    __m256i codes = RoundToHalves(x);
    sums = _mm256_add_epi32(sums, SumPairs(codes));
    codes = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(codes, 0xD8), 0xD8);  // 0, 2, 1, 3
    alignas(32) int64_t quads[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(quads), codes);
    for (int i = 0; i < 4 && d + 4 * i < head_dim; ++i, at += kQuadBytes) {
      __builtin_memcpy(at, quads + i, sizeof(quads[i]));
    }
  }
  *scale = of_row.scale * kLog2E;
  *total = SumOf(sums);
}

/// Scores of the 32 tokens of a block.
struct BlockScores {
  const std::byte* q;
  const QueryRows* rows;
  const std::byte* k;
  int64_t half_bytes;
  int quads;
  int64_t scales_at;  // from a half's codes to its tokens' scales
  float* out;         // rows kScoreStride apart
};
template <int kRows>
void ScoreBlock(const BlockScores& p, int row, BlocksAhead& ahead) {
  constexpr int kLines = LinesSideBySide(kRows);
  for (int half = 0; half < 2; half += kLines) {
    const std::byte* k = p.k + half * p.half_bytes;
    const std::byte* q = p.q + row * 8;
    const std::byte* const scales = k + p.scales_at;
    HalvesSums<KeyHalves, kRows, kLines> sums(p.rows->total + row);
    for (int quad = 0; quad < p.quads; ++quad, k += 64, q += kQuadBytes) {
      if (quad % kFetchEvery == 0) ahead.Fetch<kFetchEvery * kLines>();
      sums.Add(k, p.half_bytes, q, 8);
    }
#pragma GCC unroll 4
    for (int i = 0; i < sums.kRegisters; ++i) {
      const std::byte* const at = scales + i / kParts * p.half_bytes + i % kParts * (4 * kLanes);
      const Float scale = Load(reinterpret_cast<const float*>(at));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        Store(p.out + (row + r) * kScoreStride + half * 16 + i * kLanes,
              Mul(ToFloat(sums.sum[r][i]), Mul(Set(p.rows->scale[row + r]), scale)));
      }
    }
  }
}

/// Of rounded probabilities of 16 rows: what they count in, and their sum.
struct ProbabilityRows {
  float unit[kTileMaxRows];
  int32_t total[kTileMaxRows];
};

/// Weighted values, by groups of 16 dims.
struct GroupValues {
  const std::byte* probabilities;  // rows kProbabilityStride apart
  const ProbabilityRows* rows;
  const std::byte* const* v;  // [blocks]
  int blocks;
  float* out;
  int64_t out_stride;
};
constexpr int64_t kGroupBytes = int64_t{16} * kKvBlockTokens;

template <int kRows, int kLines>
void WeighGroups(const GroupValues& p, int row, int group, BlocksAhead& ahead) {
  HalvesSums<ValueHalves, kRows, kLines> sums(p.rows->total + row);
  const std::byte* weights = p.probabilities + row * kProbabilityStride;
  for (int block = 0; block < p.blocks; ++block) {
    const std::byte* v = p.v[block] + group * kGroupBytes;
    for (int quad = 0; quad < kKvBlockTokens / 4; ++quad, v += 64, weights += 8) {
      if (quad % kFetchEvery == 0) ahead.Fetch<kFetchEvery * kLines>();
      sums.Add(v, kGroupBytes, weights, kProbabilityStride);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Float unit = Set(p.rows->unit[row + r]);
#pragma GCC unroll 4
    for (int i = 0; i < sums.kRegisters; ++i) {
      Store(p.out + (row + r) * p.out_stride + group * 16 + i * kLanes,
            Mul(ToFloat(sums.sum[r][i]), unit));
    }
  }
}

/// One group or two.
template <int kRows>
void WeighTwo(const GroupValues& p, int row, int group, bool two, BlocksAhead& ahead) {
  if constexpr (LinesSideBySide(kRows) == 2) {
    if (two) return WeighGroups<kRows, 2>(p, row, group, ahead);
  }
  WeighGroups<kRows, 1>(p, row, group, ahead);
  if (two) WeighGroups<kRows, 1>(p, row, group + 1, ahead);
}

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

/// Products (attention_rows-inl.h) of int8 KV.
class Int16Products {
 public:
  static constexpr bool kScaledValues = true;

  static int64_t QueryTileBytes(int head_dim) {
    return Quads(head_dim) * kQuadBytes + static_cast<int64_t>(sizeof(QueryRows));
  }
  static void PackQueries(const AttentionItem& item, int first, int rows, std::byte* to) {
    auto* const scales = reinterpret_cast<QueryRows*>(to + Quads(item.head_dim) * kQuadBytes);
    for (int r = 0; r < rows; ++r) {
      const int row = first + r;
      PackQueryHalves(item.q + TokenOf(item, row / item.group) * item.q_stride +
                          row % item.group * item.head_dim,
                      item.head_dim, to + r * 8, scales->scale + r, scales->total + r);
    }
  }
  void Configure(int, int) {}
  void Release() {}

  /// The first rows fetch ahead: the others find K in L1.
  void Score(const AttentionItem& item, const std::byte* q, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
    BlockScores p = {};
    p.q = q;
    p.quads = Quads(item.head_dim);
    p.rows = reinterpret_cast<const QueryRows*>(q + p.quads * kQuadBytes);
    p.half_bytes = item.half_bytes;
    p.scales_at = int64_t{16} * item.padded_dim;
    BlocksAhead none;
    for (int block = seen.begin; block < seen.end; ++block) {
      p.k = item.k + item.BlockOffset(block);
      p.out = scores + (block * kKvBlockTokens - piece_start);
      ForRowBlocks(rows,
                   [&]<int kRows>(int row) { ScoreBlock<kRows>(p, row, row == 0 ? ahead : none); });
    }
  }

  static const float* ValueScales(const AttentionItem& item, int block) {
    return reinterpret_cast<const float*>(item.k + item.BlockOffset(block) + item.v_offset +
                                          int64_t{kKvBlockTokens} * item.padded_dim);
  }

  float Round(int r, const ScoredRow& row, std::byte* out) {
    Group largest = SetGroup(0.0f);
    const float sum = Probabilities<true>(row, [&](int token, const Group(&x)[2]) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        StoreGroup(row.scores + token + 16 * half, x[half]);
        for (int i = 0; i < kParts; ++i) largest.part[i] = Max(x[half].part[i], largest.part[i]);
      }
    });
    const float most = Max(largest);
    const bool any = most >= kLeastProbability;
    rows_.unit[r] = any ? most / kLargestProbability : 0.0f;
    const Float inverse = Set(any ? kLargestProbability / most : 0.0f);
    __m256i total = _mm256_setzero_si256();
    for (int token = row.begin; token < row.end; token += 16) {
      Group x = LoadGroup(row.scores + token);
      for (int i = 0; i < kParts; ++i) x.part[i] = Mul(x.part[i], inverse);
      const __m256i rounded = RoundToHalves(x);
      total = _mm256_add_epi32(total, SumPairs(rounded));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * token), rounded);
    }
    rows_.total[r] = SumOf(total);
    return sum;
  }

  void Weigh(const AttentionItem& item, const TileScratch& s, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* o, int64_t o_stride) {
    const std::byte* v[kPieceTokens / kKvBlockTokens];
    GroupValues p = {};
    p.probabilities = s.probabilities + 2 * (seen.begin * kKvBlockTokens - piece_start);
    p.rows = &rows_;
    p.v = v;
    p.blocks = seen.end - seen.begin;
    p.out_stride = o_stride;
    BlocksAhead none;
    for (int b = 0; b < p.blocks; ++b) {
      v[b] = item.k + item.BlockOffset(seen.begin + b) + item.v_offset;
    }
    p.out = o;
    const int groups = item.padded_dim / 16;
    for (int g = 0; g < groups; g += 2) {
      ForRowBlocks(rows, [&]<int kRows>(int row) {
        WeighTwo<kRows>(p, row, g, g + 1 < groups, row == 0 ? ahead : none);
      });
    }
  }

  static int64_t ValueBytes(const AttentionItem& item) {
    return int64_t{kKvBlockTokens} * (item.padded_dim + static_cast<int64_t>(sizeof(float)));
  }
  static int KeyLines(const AttentionItem& item) { return 2 * Quads(item.head_dim); }
  static int ValueLines(const AttentionItem& item) {
    return item.padded_dim / 16 * (kKvBlockTokens / 4);
  }

 private:
  ProbabilityRows rows_;
};

void RunInt16(const AttentionItem& item) { RunTiles<Int16Products>(item); }

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
