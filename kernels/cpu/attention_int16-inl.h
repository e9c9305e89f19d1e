// Attention over int8 KV (kernels/kv_codes.h) as it lies, for AVX2 and AVX-512: scores are exact
// products of K's codes with queries that are rounded to 16 bits, with a scale for each row; values
// as in attention_int8_values-inl.h. Against float32 products of bf16 KV two thirds of the
// instructions and half of the bytes.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_int8_values-inl.h"
#include "kernels/cpu/kv_scale-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Sums over kMaxHeadDim dims fit 32 bits.
constexpr float kLargestQuery = 16383.0f;
static_assert(double{kMore} * kLargestQuery * kMaxHeadDim < 0x1p31);

/// 16 query rows: [quads of dims][16 rows][4] int16, dims of a quad in the order 0, 2, 1, 3; then
/// this.
struct QueryRows {
  float scale[kTileMaxRows];  // times log2(e)
  int32_t total[kTileMaxRows];
};
constexpr int64_t kQuadBytes = int64_t{kTileMaxRows} * 8;
constexpr int Quads(int head_dim) { return (head_dim + 3) / 4; }

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
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(codes, _mm256_set1_epi16(1)));
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
    HalvesSums<kRows, kLines> sums(p.rows->total + row);
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

/// Products (attention_rows-inl.h) of int8 KV.
class Int16Products : public Int8Values {
 public:
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

  static int KeyLines(const AttentionItem& item) { return 2 * Quads(item.head_dim); }
};

void RunInt16(const AttentionItem& item) { RunTiles<Int16Products>(item); }

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
