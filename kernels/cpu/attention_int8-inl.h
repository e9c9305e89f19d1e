// Attention over int8 KV (kernels/kv_codes.h) as it lies, for processors that multiply bytes at
// twice the pace of 16 bits: scores are products of K's codes and of queries rounded to int8 with a
// scale each, exact in whole numbers and then scaled; values as in attention_values_winograd-inl.h.
// Against bf16 KV half of the products for scores, for values of tiles of many rows too, and half
// of the bytes.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_series-inl.h"
#include "kernels/cpu/attention_values_winograd-inl.h"
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/kv_scale-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kCodesPerTile = 64;  // dims
constexpr int kQuadsPerTile = kCodesPerTile / 4;

/// 16 query rows: [tiles of 64 dims][16 rows][64] int8, then what follows.
struct QueryScales {
  float scale[kTileMaxRows];    // times log2(e)
  int32_t start[kTileMaxRows];  // -kMore times the sum of a row's codes
};

constexpr int CodeTiles(int head_dim) { return (head_dim + kCodesPerTile - 1) / kCodesPerTile; }

/// One row to tile + t * kTileBytes, t the tile of 64 dims. A row that is not finite has the scale
/// NaN.
MODU_INLINE void PackQueryCodes(const float* q, int head_dim, std::byte* tile, float* scale,
                                int32_t* start) {
  const CodeScale of_row = ScaleOf(q, head_dim, kLargestInt8Code);
  const Float inverse = Set(of_row.inverse);
  Int sums = SetInt(0);
  for (int base = 0; base < head_dim; base += kCodesPerTile, tile += kTileBytes) {
    const int n = head_dim - base < kCodesPerTile ? head_dim - base : kCodesPerTile;
    alignas(64) float copy[kCodesPerTile];
    const float* from = q + base;
    if (n < kCodesPerTile || !of_row.finite) {
      __builtin_memset(copy, 0, sizeof(copy));
      if (of_row.finite) __builtin_memcpy(copy, from, static_cast<size_t>(n) * sizeof(float));
      from = copy;
    }
    Int whole[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      whole[i] = _mm512_cvtps_epi32(Mul(Load(from + i * kLanes), inverse));
    }
    // Packing goes by 128 bits: dword l of number i comes to lie at 4 l + i.
    const Int order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const Int codes =
        _mm512_permutexvar_epi32(order, _mm512_packs_epi16(_mm512_packs_epi32(whole[0], whole[1]),
                                                           _mm512_packs_epi32(whole[2], whole[3])));
    StoreInt(tile, codes);
    sums = OnesDot(sums, codes);
  }
  *scale = of_row.scale * kLog2E;
  *start = -kMore * SumOf(sums);
}

/// out[row r][column n][16] = the scaled sum over all quads of `tiles` tiles of queries x keys.
struct CodeScores {
  const std::byte* q;
  const QueryScales* scales;
  const std::byte* const* k;  // [columns]: a half of a block each
  int tiles;
  int last_quads;     // of the last tile
  int64_t scales_at;  // from k to its tokens' scales
  float* out;         // rows kScoreStride apart
};

struct ScoreCodes {
  template <int kRows, int kColumns>
  static void Run(const CodeScores& p, BlocksAhead& ahead) {
    Int sum[kRows][kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) sum[r][n] = _mm512_set1_epi32(p.scales->start[r]);
    }
    const std::byte* columns[kColumns];
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; ++n) columns[n] = p.k[n];
    for (int t = 0; t < p.tiles; ++t) {
      const std::byte* a = p.q + t * kTileBytes;
      const int quads = t + 1 < p.tiles ? kQuadsPerTile : p.last_quads;
      for (int quad = 0; quad < quads; ++quad, a += 4) {
        Int column[kColumns];
#pragma GCC unroll 4
        for (int n = 0; n < kColumns; ++n) {
          column[n] = _mm512_loadu_si512(columns[n]);
          columns[n] += kTileRowBytes;
        }
        ahead.Fetch<kColumns>();
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Int row = PairAt(a + r * kTileRowBytes);  // four codes
#pragma GCC unroll 4
          for (int n = 0; n < kColumns; ++n) {
            sum[r][n] = _mm512_dpbusd_epi32(sum[r][n], column[n], row);
          }
        }
      }
    }
    Float scale[kColumns];
#pragma GCC unroll 4
    for (int n = 0; n < kColumns; ++n) {
      scale[n] = Load(reinterpret_cast<const float*>(p.k[n] + p.scales_at));
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Float row = Set(p.scales->scale[r]);
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) {
        Store(p.out + r * kScoreStride + 16 * n, Mul(ToFloat(sum[r][n]), Mul(row, scale[n])));
      }
    }
  }
};

/// Products (attention_rows-inl.h) of int8 KV; Values: the half of them that values take.
template <typename Values>
class Int8Products : public Values {
 public:
  static int64_t QueryTileBytes(int head_dim) {
    return CodeTiles(head_dim) * kTileBytes + static_cast<int64_t>(sizeof(QueryScales));
  }
  static void PackQueries(const AttentionItem& item, int first, int rows, std::byte* to) {
    auto* const scales = reinterpret_cast<QueryScales*>(to + CodeTiles(item.head_dim) * kTileBytes);
    for (int r = 0; r < rows; ++r) {
      const int row = first + r;
      PackQueryCodes(item.q + TokenOf(item, row / item.group) * item.q_stride +
                         row % item.group * item.head_dim,
                     item.head_dim, to + r * kTileRowBytes, scales->scale + r, scales->start + r);
    }
  }

  void Score(const AttentionItem& item, const std::byte* q, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* scores) {
    const std::byte* k[kMostSeriesColumns];
    CodeScores p = {};
    p.q = q;
    p.tiles = CodeTiles(item.head_dim);
    p.scales = reinterpret_cast<const QueryScales*>(q + p.tiles * kTileBytes);
    p.k = k;
    p.last_quads = (item.head_dim - (p.tiles - 1) * kCodesPerTile + 3) / 4;
    p.scales_at = int64_t{16} * item.padded_dim;
    // By halves of blocks, 16 tokens each.
    for (int half = 2 * seen.begin; half < 2 * seen.end;) {
      int columns = SeriesColumns(rows);
      while (half + columns > 2 * seen.end) columns /= 2;
      for (int n = 0; n < columns; ++n) {
        k[n] = item.k + item.BlockOffset((half + n) / 2) + (half + n) % 2 * item.half_bytes;
      }
      p.out = scores + (half * 16 - piece_start);
      SeriesTable<ScoreCodes, CodeScores>::Run(rows, columns, p, ahead);
      half += columns;
    }
  }

  static int KeyLines(const AttentionItem& item) { return 2 * ((item.head_dim + 3) / 4); }
};

void RunInt8(const AttentionItem& item) { RunTiles<Int8Products<WinogradValues>>(item); }

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
