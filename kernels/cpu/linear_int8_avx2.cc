// Products of 4- and 8-bit weights with int8 activations, AVX2. vpmaddubsw multiplies unsigned
// codes with signed activations into pairs of int16; with codes below 16 all eight products of a
// group of 32 fit one int16 sum (8 * 2 * 15 * 128 = 30720), so vpmaddwd to int32 is needed once a
// group. 8-bit codes are split into nibbles for the same reason.
#include <immintrin.h>

#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu {
namespace {

#define MODU_INLINE inline __attribute__((always_inline))

MODU_INLINE __m256i LoadCodes(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

/// Four consecutive activations, once for each of 8 columns.
MODU_INLINE __m256i Four(const int8_t* p) {
  int bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

MODU_INLINE __m256i LowNibbles(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
MODU_INLINE __m256i HighNibbles(__m256i x) { return LowNibbles(_mm256_srli_epi16(x, 4)); }

MODU_INLINE __m256i Accumulate(__m256i sum, __m256i codes, __m256i activations) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, activations));
  asm("" : "+x"(sum));  // GCC would make trees of these sums and spill all their products
  return sum;
}

/// Eight scales from their array in a group.
struct F16Scales {
  static constexpr int kBytes = 64;
  static MODU_INLINE __m256 Load(const std::byte* array, int vector) {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(array + 16 * vector)));
  }
};
struct F32Scales {
  static constexpr int kBytes = 128;
  static MODU_INLINE __m256 Load(const std::byte* array, int vector) {
    return _mm256_load_ps(reinterpret_cast<const float*>(array + 32 * vector));
  }
};

/// Adds one group to the sums of R rows x V vectors of 8 columns, the first of them `vector`.
template <typename Scales>
struct W4 {
  static constexpr int64_t kGroupBytes = 512 + 2 * Scales::kBytes;
  static constexpr int kVectors[5] = {0, 4, 2, 2, 2};  // V by R: what fits 16 registers

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m256 (&c)[R][V]) {
    __m256i sum[R][V] = {};
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) {
      __m256i low[V], high[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int at = vector + v;
        const __m256i x = LoadCodes(group + at / 2 * 256 + at % 2 * 32 + 64 * z);
        low[v] = LowNibbles(x);
        high[v] = HighNibbles(x);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const int8_t* values = rows[r]->values + 8 * z;
        const __m256i a = Four(values), b = Four(values + 4);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          sum[r][v] = Accumulate(sum[r][v], low[v], a);
          sum[r][v] = Accumulate(sum[r][v], high[v], b);
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m256 d = Scales::Load(group + 512, vector + v);
      const __m256 m = Scales::Load(group + 512 + Scales::kBytes, vector + v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256 e = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[r][v], ones));
        c[r][v] = _mm256_fmadd_ps(m, _mm256_set1_ps(rows[r]->scaled_sum), c[r][v]);
        c[r][v] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(rows[r]->scale)), e, c[r][v]);
      }
    }
  }
};

struct W8 {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8F16);
  static constexpr int kVectors[5] = {0, 4, 2, 1, 1};

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m256 (&c)[R][V]) {
    __m256i low_sum[R][V] = {}, high_sum[R][V] = {};
#pragma GCC unroll 8
    for (int z = 0; z < 8; ++z) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int at = vector + v;
        const __m256i x = LoadCodes(group + at / 2 * 512 + at % 2 * 32 + 64 * z);
        const __m256i low = LowNibbles(x), high = HighNibbles(x);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m256i a = Four(rows[r]->values + 4 * z);
          low_sum[r][v] = Accumulate(low_sum[r][v], low, a);
          high_sum[r][v] = Accumulate(high_sum[r][v], high, a);
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m256 d = F16Scales::Load(group + 1024, vector + v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256i unsigned_sum = _mm256_add_epi32(_mm256_madd_epi16(low_sum[r][v], ones),
                                                      _mm256_madd_epi16(high_sum[r][v], sixteens));
        const __m256i e =
            _mm256_sub_epi32(unsigned_sum, _mm256_set1_epi32(128 * rows[r]->sum));  // 128 * sum
        c[r][v] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(rows[r]->scale)),
                                  _mm256_cvtepi32_ps(e), c[r][v]);
      }
    }
  }
};

/// Codes below 32: four products fit one int16 sum (4 * 2 * 31 * 128 = 31744).
struct W8Min {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8Min);
  static constexpr int kVectors[5] = {0, 4, 2, 1, 1};

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m256 (&c)[R][V]) {
    __m256i sum[R][V][2] = {};
#pragma GCC unroll 8
    for (int z = 0; z < 8; ++z) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int at = vector + v;
        const __m256i x = LoadCodes(group + at / 2 * 512 + at % 2 * 32 + 64 * z);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m256i a = Four(rows[r]->values + 4 * z);
          sum[r][v][z / 4] = Accumulate(sum[r][v][z / 4], x, a);
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const __m256 d = F32Scales::Load(group + 1024, vector + v);
      const __m256 m = F32Scales::Load(group + 1024 + 128, vector + v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256 e = _mm256_cvtepi32_ps(_mm256_add_epi32(
            _mm256_madd_epi16(sum[r][v][0], ones), _mm256_madd_epi16(sum[r][v][1], ones)));
        c[r][v] = _mm256_fmadd_ps(m, _mm256_set1_ps(rows[r]->scaled_sum), c[r][v]);
        c[r][v] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(rows[r]->scale)), e, c[r][v]);
      }
    }
  }
};

/// Signed codes of at most 32: the sign moves to the activation, and a half group's four products
/// fit one int16 sum (4 * 2 * 32 * 127 = 32512; activations are never -128 where finite, and
/// a group that is not finite has a NaN scale).
struct W8Half {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8Half);
  static constexpr int kVectors[5] = {0, 4, 2, 1, 1};

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m256 (&c)[R][V]) {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m256i sum[R][V] = {};
#pragma GCC unroll 4
      for (int z = 4 * half; z < 4 * half + 4; ++z) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const int at = vector + v;
          const __m256i x = LoadCodes(group + at / 2 * 512 + at % 2 * 32 + 64 * z);
          const __m256i magnitude = _mm256_abs_epi8(x);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const __m256i a = Four(rows[r]->values + 4 * z);
            sum[r][v] = Accumulate(sum[r][v], magnitude, _mm256_sign_epi8(a, x));
          }
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const __m256 d = F32Scales::Load(group + 1024 + 128 * half, vector + v);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m256 e = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[r][v], ones));
          c[r][v] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(rows[r]->scale)), e, c[r][v]);
        }
      }
    }
  }
};

template <typename Format, int R>
void Block(const std::byte* strip, const std::byte* in, int64_t row_bytes, int64_t groups,
           float* tile) {
  constexpr int V = Format::kVectors[R];
  for (int vector = 0; vector < 4; vector += V) {
    __m256 c[R][V] = {};
    const std::byte* group = strip;
    const Int8Group* rows[R];
    for (int r = 0; r < R; ++r) {
      rows[r] = reinterpret_cast<const Int8Group*>(in + r * row_bytes);
    }
    for (int64_t g = 0; g < groups; ++g, group += Format::kGroupBytes) {
      Format::template Group<R, V>(group, vector, rows, c);
      for (const Int8Group*& row : rows) ++row;
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) _mm256_store_ps(tile + r * kStrip + (vector + v) * 8, c[r][v]);
    }
  }
}

template <typename Format>
void RunStrip(const std::byte* strip, const PreparedLayout& layout, const std::byte* in, int rows,
              float* tile) {
  const int64_t groups = layout.groups();
  for (int row = 0; row < rows;) {
    const std::byte* const block = in + row * layout.row_bytes;
    float* const out = tile + row * kStrip;
    switch (rows - row) {
      case 1:
        Block<Format, 1>(strip, block, layout.row_bytes, groups, out);
        return;
      case 2:
        Block<Format, 2>(strip, block, layout.row_bytes, groups, out);
        return;
      case 3:
        Block<Format, 3>(strip, block, layout.row_bytes, groups, out);
        return;
      default:
        Block<Format, 4>(strip, block, layout.row_bytes, groups, out);
        row += 4;
    }
  }
}

}  // namespace

const Int8Kernels& Int8KernelsAvx2() {
  static constexpr Int8Kernels kKernels = {{RunStrip<W4<F16Scales>>, RunStrip<W4<F32Scales>>,
                                            RunStrip<W8>, RunStrip<W8Min>, RunStrip<W8Half>}};
  return kKernels;
}

}  // namespace modu::kernels::cpu
