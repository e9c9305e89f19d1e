// Products of 4- and 8-bit weights with int8 activations, AVX-512 with VNNI. VPDPBUSD adds four
// products of unsigned codes and signed activations into int32, so sums are exact without the
// nibble splitting of the AVX2 file; the f32 expression around them is the same, so are the bits.
// Tests compile this file a second time over an emulation of the intrinsics (MODU_VECTOR_EMULATED).
#if !defined(MODU_VECTOR_EMULATED)
#include <immintrin.h>
#endif

#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu {
namespace {

#define MODU_INLINE inline __attribute__((always_inline))

MODU_INLINE __m512i LoadCodes(const std::byte* p) { return _mm512_loadu_si512(p); }

/// Four consecutive activations, once for each of 16 columns.
MODU_INLINE __m512i Four(const int8_t* p) {
  int bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  return _mm512_set1_epi32(bytes);
}

MODU_INLINE __m512i LowNibbles(__m512i x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
MODU_INLINE __m512i HighNibbles(__m512i x) { return LowNibbles(_mm512_srli_epi16(x, 4)); }

/// Sixteen scales from their array in a group.
struct F16Scales {
  static constexpr int kBytes = 64;
  static MODU_INLINE __m512 Load(const std::byte* array, int vector) {
    return _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(array + 32 * vector)));
  }
};
struct F32Scales {
  static constexpr int kBytes = 128;
  static MODU_INLINE __m512 Load(const std::byte* array, int vector) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(array + 64 * vector));
  }
};

/// Adds one group to the sums of R rows x V vectors of 16 columns, the first of them `vector`.
template <typename Scales>
struct W4 {
  static constexpr int64_t kGroupBytes = 512 + 2 * Scales::kBytes;

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m512 (&c)[R][V]) {
    __m512i sum[R][V] = {};
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i x = LoadCodes(group + (vector + v) * 256 + 64 * z);
        const __m512i low = LowNibbles(x), high = HighNibbles(x);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const int8_t* values = rows[r]->values + 8 * z;
          sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], low, Four(values));
          sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], high, Four(values + 4));
        }
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __m512 d = Scales::Load(group + 512, vector + v);
      const __m512 m = Scales::Load(group + 512 + Scales::kBytes, vector + v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const __m512 e = _mm512_cvtepi32_ps(sum[r][v]);
        c[r][v] = _mm512_fmadd_ps(m, _mm512_set1_ps(rows[r]->scaled_sum), c[r][v]);
        c[r][v] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(rows[r]->scale)), e, c[r][v]);
      }
    }
  }
};

struct W8 {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8F16);

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m512 (&c)[R][V]) {
    __m512i sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_set1_epi32(-128 * rows[r]->sum);
    }
#pragma GCC unroll 8
    for (int z = 0; z < 8; ++z) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i x = LoadCodes(group + (vector + v) * 512 + 64 * z);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, Four(rows[r]->values + 4 * z));
        }
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __m512 d = F16Scales::Load(group + 1024, vector + v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        c[r][v] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(rows[r]->scale)),
                                  _mm512_cvtepi32_ps(sum[r][v]), c[r][v]);
      }
    }
  }
};

struct W8Min {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8Min);

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m512 (&c)[R][V]) {
    __m512i sum[R][V] = {};
#pragma GCC unroll 8
    for (int z = 0; z < 8; ++z) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i x = LoadCodes(group + (vector + v) * 512 + 64 * z);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, Four(rows[r]->values + 4 * z));
        }
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __m512 d = F32Scales::Load(group + 1024, vector + v);
      const __m512 m = F32Scales::Load(group + 1024 + 128, vector + v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const __m512 e = _mm512_cvtepi32_ps(sum[r][v]);
        c[r][v] = _mm512_fmadd_ps(m, _mm512_set1_ps(rows[r]->scaled_sum), c[r][v]);
        c[r][v] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(rows[r]->scale)), e, c[r][v]);
      }
    }
  }
};

/// Signed codes: their sign moves to the activation.
struct W8Half {
  static constexpr int64_t kGroupBytes = GroupBytes(StripFormat::kW8Half);

  template <int R, int V>
  static MODU_INLINE void Group(const std::byte* group, int vector,
                                const Int8Group* const (&rows)[R], __m512 (&c)[R][V]) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m512i sum[R][V] = {};
#pragma GCC unroll 4
      for (int z = 4 * half; z < 4 * half + 4; ++z) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          const __m512i x = LoadCodes(group + (vector + v) * 512 + 64 * z);
          const __m512i magnitude = _mm512_abs_epi8(x);
          const __mmask64 negative = _mm512_movepi8_mask(x);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const __m512i a = Four(rows[r]->values + 4 * z);
            const __m512i turned = _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a);
            sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], magnitude, turned);
          }
        }
      }
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512 d = F32Scales::Load(group + 1024 + 128 * half, vector + v);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          c[r][v] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(rows[r]->scale)),
                                    _mm512_cvtepi32_ps(sum[r][v]), c[r][v]);
        }
      }
    }
  }
};

template <typename Format, int R>
void Block(const std::byte* strip, const std::byte* in, int64_t row_bytes, int64_t groups,
           float* tile) {
  constexpr int V = R <= 6 ? 2 : 1;  // sums and results of R x V fit 32 registers
  for (int vector = 0; vector < 2; vector += V) {
    __m512 c[R][V] = {};
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
      for (int v = 0; v < V; ++v) {
        _mm512_storeu_ps(tile + r * kStrip + (vector + v) * 16, c[r][v]);
      }
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
    const int left = rows - row;
    if (left >= 8 && left != 9) {
      Block<Format, 8>(strip, block, layout.row_bytes, groups, out);
      row += 8;
      continue;
    }
    switch (left) {
      case 1:
        Block<Format, 1>(strip, block, layout.row_bytes, groups, out);
        return;
      case 2:
        Block<Format, 2>(strip, block, layout.row_bytes, groups, out);
        return;
      case 3:
        Block<Format, 3>(strip, block, layout.row_bytes, groups, out);
        return;
      case 4:
        Block<Format, 4>(strip, block, layout.row_bytes, groups, out);
        return;
      case 5:
        Block<Format, 5>(strip, block, layout.row_bytes, groups, out);
        return;
      default:
        Block<Format, 6>(strip, block, layout.row_bytes, groups, out);
        row += 6;
    }
  }
}

}  // namespace

#if !defined(MODU_VECTOR_EMULATED)
const Int8Kernels& Int8KernelsAvx512() {
#else
const Int8Kernels& Int8KernelsEmulated() {
#endif
  static constexpr Int8Kernels kKernels = {{RunStrip<W4<F16Scales>>, RunStrip<W4<F32Scales>>,
                                            RunStrip<W8>, RunStrip<W8Min>, RunStrip<W8Half>}};
  return kKernels;
}

}  // namespace modu::kernels::cpu
