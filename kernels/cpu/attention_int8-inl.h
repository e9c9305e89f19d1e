// Attention over int8 KV (kernels/kv_codes.h) as it lies, for processors with AVX512-VNNI, -VBMI
// and -BF16: scores are products of K's codes and of queries rounded to int8 with a scale each,
// exact in whole numbers and then scaled; values are V's codes as bf16, exactly, times
// probabilities that have gone through the tokens' scales before they are rounded to bf16. Against
// bf16 KV half of the products for scores, as many for values and half of the bytes. Included by
// op_dtype_isa files only.
#pragma once
#include <array>

#include "kernels/cpu/attention_rows-inl.h"
#include "kernels/cpu/attention_series-inl.h"
#include "kernels/cpu/dot_pairs-inl.h"
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/kv_scale-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kCodesPerTile = 64;  // dims
constexpr int kQuadsPerTile = kCodesPerTile / 4;

/// 16 query rows: [tiles of 64 dims][16 rows][64] int8, then what follows.
struct QueryScales {
  float scale[kTileMaxRows];    // times log2(e)
  int32_t start[kTileMaxRows];  // -128 times the sum of a row's codes: K's are larger by 128
};

constexpr int CodeTiles(int head_dim) { return (head_dim + kCodesPerTile - 1) / kCodesPerTile; }

/// One row to tile + t * kTileBytes, t the tile of 64 dims. A row that is not finite has the scale
/// NaN.
MODU_INLINE void PackQueryCodes(const float* q, int head_dim, std::byte* tile, float* scale,
                                int32_t* start) {
  const CodeScale of_row = ScaleOf(q, head_dim, kLargestInt8Code);
  *scale = of_row.scale * kLog2E;
  int32_t sum = 0;
  for (int base = 0; base < head_dim; base += kCodesPerTile, tile += kTileBytes) {
    const int n = head_dim - base < kCodesPerTile ? head_dim - base : kCodesPerTile;
    alignas(64) float scaled[kCodesPerTile] = {};
    alignas(64) int8_t codes[kCodesPerTile];
    if (of_row.finite) {
      for (int d = 0; d < n; ++d) scaled[d] = q[base + d] * of_row.inverse;
    }
    for (int d = 0; d < kCodesPerTile; ++d) {
      codes[d] = static_cast<int8_t>(static_cast<int>(__builtin_rintf(scaled[d])));
      sum += codes[d];
    }
    __builtin_memcpy(tile, codes, kCodesPerTile);
  }
  *start = -128 * sum;
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
          const Int row = BroadcastPair(a + r * kTileRowBytes);  // four codes
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

/// The upper (or lower) bytes of the bf16 numbers 0 to 127.
constexpr std::array<uint8_t, 128> BytesOfBf16(bool upper) {
  std::array<uint8_t, 128> bytes = {};
  for (unsigned i = 1; i < 128; ++i) {
    unsigned exponent = 0;
    while (i >> (exponent + 1) != 0) ++exponent;
    const unsigned bits = (127 + exponent) << 7 | (i << (7 - exponent) & 0x7Fu);
    bytes[i] = static_cast<uint8_t>(upper ? bits >> 8 : bits & 0xFFu);
  }
  return bytes;
}
alignas(64) constexpr std::array<uint8_t, 128> kUpperBytes = BytesOfBf16(true);
alignas(64) constexpr std::array<uint8_t, 128> kLowerBytes = BytesOfBf16(false);

/// Codes of V, sign and magnitude, to bf16: of tokens 0 and 1 in each lane, and of 2 and 3.
class ValuePairs {
 public:
  ValuePairs()
      : upper_{_mm512_load_si512(kUpperBytes.data()), _mm512_load_si512(kUpperBytes.data() + 64)},
        lower_{_mm512_load_si512(kLowerBytes.data()), _mm512_load_si512(kLowerBytes.data() + 64)} {}

  MODU_INLINE void Of(Int codes, Int& first, Int& second) const {
    constexpr int kOrOfAnd = 0xF8;  // a | (b & c)
    const Int signs = _mm512_set1_epi32(static_cast<int>(0x80808080));
    const Int even = _mm512_set1_epi32(0x00FF00FF),
              odd = _mm512_set1_epi32(static_cast<int>(0xFF00FF00));
    const Int upper = _mm512_ternarylogic_epi32(
        _mm512_permutex2var_epi8(upper_[0], codes, upper_[1]), codes, signs, kOrOfAnd);
    const Int lower = _mm512_permutex2var_epi8(lower_[0], codes, lower_[1]);
    first = _mm512_ternarylogic_epi32(_mm512_slli_epi16(upper, 8), lower, even, kOrOfAnd);
    second = _mm512_ternarylogic_epi32(_mm512_srli_epi16(lower, 8), upper, odd, kOrOfAnd);
  }

 private:
  Int upper_[2], lower_[2];
};

/// out[row r][column n][16 dims] = the sum over all tokens of `blocks` blocks, one chain over
/// rising pairs.
struct CodeValues {
  const std::byte* probabilities;  // rows kProbabilityStride apart
  const std::byte* const* v;       // [blocks]: at the first column's dims
  int blocks;
  float* out;
  int64_t out_stride;
};

constexpr int64_t kValueColumnBytes = int64_t{16} * kKvBlockTokens;

struct WeighCodes {
  template <int kRows, int kColumns>
  static void Run(const CodeValues& p, BlocksAhead& ahead) {
    const ValuePairs pairs;
    Float sum[kRows][kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) sum[r][n] = Zero();
    }
    const std::byte* a = p.probabilities;
    for (int b = 0; b < p.blocks; ++b) {
      const std::byte* v = p.v[b];
      for (int quad = 0; quad < kKvBlockTokens / 4; ++quad, v += kTileRowBytes, a += 8) {
        Int first[kColumns], second[kColumns];
#pragma GCC unroll 4
        for (int n = 0; n < kColumns; ++n) {
          pairs.Of(_mm512_loadu_si512(v + n * kValueColumnBytes), first[n], second[n]);
        }
        ahead.Fetch<kColumns>();
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Int row = BroadcastPair(a + r * kProbabilityStride);
#pragma GCC unroll 4
          for (int n = 0; n < kColumns; ++n) sum[r][n] = DotPairs(sum[r][n], first[n], row);
        }
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Int row = BroadcastPair(a + r * kProbabilityStride + 4);
#pragma GCC unroll 4
          for (int n = 0; n < kColumns; ++n) sum[r][n] = DotPairs(sum[r][n], second[n], row);
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < kColumns; ++n) Store(p.out + r * p.out_stride + 16 * n, sum[r][n]);
    }
  }
};

/// Products (attention_rows-inl.h) of int8 KV.
class Int8Products {
 public:
  static constexpr bool kScaledValues = true;

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
  void Configure(int, int) {}
  void Release() {}

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

  static const float* ValueScales(const AttentionItem& item, int block) {
    return reinterpret_cast<const float*>(item.k + item.BlockOffset(block) + item.v_offset +
                                          int64_t{kKvBlockTokens} * item.padded_dim);
  }

  float Round(int, const ScoredRow& row, std::byte* out) {
    return Bf16Probabilities<true>(row, out);
  }
  void Weigh(const AttentionItem& item, const TileScratch& s, int rows, int piece_start,
             const SeenBlocks& seen, BlocksAhead ahead, float* o, int64_t o_stride) {
    const std::byte* v[kPieceTokens / kKvBlockTokens];
    CodeValues p = {};
    p.probabilities = s.probabilities + 2 * (seen.begin * kKvBlockTokens - piece_start);
    p.v = v;
    p.blocks = seen.end - seen.begin;
    p.out_stride = o_stride;
    const int dim_tiles = item.padded_dim / 16;
    for (int dims = 0; dims < dim_tiles;) {
      int columns = SeriesColumns(rows);
      while (dims + columns > dim_tiles) columns /= 2;
      for (int b = 0; b < p.blocks; ++b) {
        v[b] = item.k + item.BlockOffset(seen.begin + b) + item.v_offset + dims * kValueColumnBytes;
      }
      p.out = o + 16 * dims;
      SeriesTable<WeighCodes, CodeValues>::Run(rows, columns, p, ahead);
      dims += columns;
    }
  }

  static int64_t ValueBytes(const AttentionItem& item) {
    return int64_t{kKvBlockTokens} * (item.padded_dim + static_cast<int64_t>(sizeof(float)));
  }
  static int KeyLines(const AttentionItem& item) { return 2 * ((item.head_dim + 3) / 4); }
  static int ValueLines(const AttentionItem& item) {
    return item.padded_dim / 16 * (kKvBlockTokens / 4);
  }
};

void RunInt8(const AttentionItem& item) { RunTiles<Int8Products>(item); }

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
