// Products over f32 activations, for weights of any format: a group of 32 inputs is decoded once
// into an L1 panel and multiplied with all rows. Also the epilogues (store, gate) and the writing
// of Prepared rows. Written once over vector-inl.h; included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector_math-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kVectors = kStrip / kLanes;

/// tile[r][..] += in[r][0, inputs) x panel, R rows x V vectors of columns in registers.
template <int R, int V>
MODU_INLINE void MultiplyBlock(const float* panel, const float* in, int64_t in_stride, int inputs,
                               float* tile) {
  Float c[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[r][v] = Load(tile + r * kStrip + v * kLanes);
  }
  for (int k = 0; k < inputs; ++k) {
    Float w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = Load(panel + k * kStrip + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Float a = Set(in[r * in_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) c[r][v] = Fma(a, w[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(tile + r * kStrip + v * kLanes, c[r][v]);
  }
}

template <int R>
void MultiplyRows(const float* panel, const float* in, int64_t in_stride, int inputs, float* tile) {
  // 12 sums of AVX2's 16 registers, 12 of AVX-512's 32.
  constexpr int V = R <= 2 ? kVectors : 2;
  for (int v = 0; v < kVectors; v += V) {
    MultiplyBlock<R, V>(panel + v * kLanes, in, in_stride, inputs, tile + v * kLanes);
  }
}

void MultiplyPanel(const float* panel, const float* in, int64_t in_stride, int inputs, int rows,
                   float* tile) {
  for (int row = 0; row < rows; row += 6) {
    const float* const a = in + row * in_stride;
    float* const c = tile + row * kStrip;
    switch (rows - row) {
      case 1:
        MultiplyRows<1>(panel, a, in_stride, inputs, c);
        break;
      case 2:
        MultiplyRows<2>(panel, a, in_stride, inputs, c);
        break;
      case 3:
        MultiplyRows<3>(panel, a, in_stride, inputs, c);
        break;
      case 4:
        MultiplyRows<4>(panel, a, in_stride, inputs, c);
        break;
      case 5:
        MultiplyRows<5>(panel, a, in_stride, inputs, c);
        break;
      default:
        MultiplyRows<6>(panel, a, in_stride, inputs, c);
    }
  }
}

void FloatStrip(const Strip& strip, const PreparedLayout& layout, bool round_to_bf16,
                const std::byte* in, int rows, float* tile) {
  alignas(64) float panel[kGroup * kStrip];
  const Float zero = Zero();
  for (int i = 0; i < rows * kStrip; i += kLanes) Store(tile + i, zero);
  const int64_t in_stride = layout.row_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t group_bytes = strip.group_bytes;
  const std::byte* group = strip.data;
  for (int64_t k = 0; k < layout.cols; k += kGroup, group += group_bytes) {
    const int inputs = layout.cols - k < kGroup ? static_cast<int>(layout.cols - k) : kGroup;
    const float* weights = panel;
    if (round_to_bf16) {
      DecodeGroup<true>(strip.format, group, inputs, panel);
    } else if (strip.format == StripFormat::kF32) {
      weights = reinterpret_cast<const float*>(group);
    } else {
      DecodeGroup<false>(strip.format, group, inputs, panel);
    }
    MultiplyPanel(weights, reinterpret_cast<const float*>(in) + k, in_stride, inputs, rows, tile);
  }
}

void StoreTile(const StoreArgs& args) {
  const int whole = args.columns / kLanes * kLanes;
  for (int row = 0; row < args.rows; ++row) {
    const float* const tile = args.tile + row * kStrip;
    float* const out = args.out + row * args.out_stride;
    for (int i = 0; i < whole; i += kLanes) {
      Float x = Load(tile + i);
      if (args.scales != nullptr) x = Mul(x, Load(args.scales + i));
      if (args.bias != nullptr) x = Add(x, Load(args.bias + i));
      if (args.accumulate) x = Add(Load(out + i), x);
      Store(out + i, x);
    }
    for (int i = whole; i < args.columns; ++i) {
      float x = tile[i];
      if (args.scales != nullptr) x *= args.scales[i];
      if (args.bias != nullptr) x += args.bias[i];
      out[i] = args.accumulate ? out[i] + x : x;
    }
  }
}

void GateTile(const GateArgs& args) {
  for (int i = 0; i < args.rows * kStrip; i += kLanes) {
    Float gate = Load(args.gate + i), up = Load(args.up + i);
    if (args.gate_scales != nullptr) gate = Mul(gate, Load(args.gate_scales + i % kStrip));
    if (args.up_scales != nullptr) up = Mul(up, Load(args.up_scales + i % kStrip));
    gate = args.activation == Activation::kSilu ? Silu(gate) : GeluTanh(gate);
    Store(args.gate + i, Mul(gate, up));
  }
}

/// The largest lane, or with kLargest false the smallest.
template <bool kLargest>
MODU_INLINE float Extreme(__m256 x) {
  const auto pick = [](__m128 a, __m128 b) {
    return kLargest ? _mm_max_ps(a, b) : _mm_min_ps(a, b);
  };
  __m128 four = pick(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = pick(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(pick(four, _mm_shuffle_ps(four, four, 1)));
}

/// 32 activations to int8 and their centre. A range below 1e-36 (127 / it would overflow) becomes
/// its centre alone; a group with a NaN or an infinity gets a NaN scale.
MODU_INLINE void QuantiseGroup(const float* values, Int8Group* group) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 x[4];
  __m256i largest = _mm256_setzero_si256();  // of bit patterns: NaN is above infinity
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_loadu_ps(values + 8 * i);
    largest = _mm256_max_epi32(largest, _mm256_castps_si256(_mm256_and_ps(x[i], magnitude)));
  }
  __m128i four =
      _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  float middle = 0, d = 0, inverse = 0;
  if (_mm_cvtsi128_si32(four) >= 0x7f800000) {
    d = __builtin_nanf("");
    for (__m256& part : x) part = _mm256_setzero_ps();
  } else {
    const float low =
        Extreme<false>(_mm256_min_ps(_mm256_min_ps(x[0], x[1]), _mm256_min_ps(x[2], x[3])));
    const float high =
        Extreme<true>(_mm256_max_ps(_mm256_max_ps(x[0], x[1]), _mm256_max_ps(x[2], x[3])));
    middle = 0.5f * low + 0.5f * high;
    // From the rounded middle, so that no quotient below passes 127.
    const float above = high - middle, below = middle - low;
    const float reach = above > below ? above : below;
    if (reach >= 1e-36f) {
      d = reach / 127.0f;
      inverse = 127.0f / reach;
    }
  }
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(
        _mm256_mul_ps(_mm256_sub_ps(x[i], _mm256_set1_ps(middle)), _mm256_set1_ps(inverse)));
  }
  __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(group->values), bytes);
  const __m256i eight =
      _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
  __m128i total = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4E));
  total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xB1));
  group->scale = d;
  group->sum = _mm_cvtsi128_si32(total);
  group->total = __builtin_fmaf(d, static_cast<float>(group->sum), kGroup * middle);
  group->centre = middle;
}

/// 8 activations to bf16 patterns in the upper halves; NaN stays NaN.
MODU_INLINE __m256i RoundActivations(const float* values) {
  const __m256 x = _mm256_loadu_ps(values);
  const __m256 quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  return _mm256_castps_si256(
      _mm256_blendv_ps(RoundToBf16(x), quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
MODU_INLINE uint32_t RoundActivation(const float* value) {
  uint32_t bits;
  __builtin_memcpy(&bits, value, sizeof(bits));
  return (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x7fffffffu
                                            : (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
}

MODU_INLINE void PrepareBf16(const float* values, int64_t count, float* out) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    _mm256_storeu_ps(out + k, _mm256_castsi256_ps(RoundActivations(values + k)));
  }
  for (; k < count; ++k) {
    const uint32_t bits = RoundActivation(values + k);
    __builtin_memcpy(out + k, &bits, sizeof(bits));
  }
}

MODU_INLINE void PrepareBf16Pairs(const float* values, int64_t count, std::byte* out) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    const __m256i upper = _mm256_srli_epi32(RoundActivations(values + k), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + 2 * k),
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
  }
  for (; k < count; ++k) {
    const auto bits = static_cast<uint16_t>(RoundActivation(values + k) >> 16);
    __builtin_memcpy(out + 2 * k, &bits, sizeof(bits));
  }
}

/// The same with denormals as zeros of their sign, which tile products take them for: also those
/// that would round up to a normal number.
MODU_INLINE __m256i RoundForTiles(const float* values) {
  const __m256 x = _mm256_loadu_ps(values);
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 denormal =
      _mm256_cmp_ps(_mm256_xor_ps(x, sign), _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(RoundActivations(values)), sign, denormal));
}
MODU_INLINE uint32_t RoundOneForTiles(const float* value) {
  const uint32_t bits = RoundActivation(value);
  return __builtin_fabsf(*value) < 0x1p-126f ? bits & 0x80000000u : bits;
}

/// The row's place in each line of its block, a pair of inputs. Whoever writes the last column
/// writes the zeros after it.
MODU_INLINE void PrepareTiles(const float* values, int64_t first, int64_t count, int64_t cols,
                              std::byte* row) {
  std::byte* out = row + first / 2 * kTileRowBytes;
  int64_t k = 0;
  for (; k + 8 <= count; k += 8, out += 4 * kTileRowBytes) {
    const __m256i upper = _mm256_srli_epi32(RoundForTiles(values + k), 16);
    const __m128i pairs =
        _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
    const int words[] = {_mm_extract_epi32(pairs, 0), _mm_extract_epi32(pairs, 1),
                         _mm_extract_epi32(pairs, 2), _mm_extract_epi32(pairs, 3)};
    for (int i = 0; i < 4; ++i) __builtin_memcpy(out + i * kTileRowBytes, words + i, 4);
  }
  for (; k < count; k += 2, out += kTileRowBytes) {
    const uint32_t low = RoundOneForTiles(values + k) >> 16;
    const uint32_t high = k + 1 < count ? RoundOneForTiles(values + k + 1) & 0xFFFF0000u : 0;
    const uint32_t pair = low | high;
    __builtin_memcpy(out, &pair, sizeof(pair));
  }
  if (first + count != cols) return;
  for (int64_t end = cols + cols % 2; end % kGroup != 0; end += 2) {
    __builtin_memset(row + end / 2 * kTileRowBytes, 0, 4);
  }
}

void Prepare(const PreparedLayout& layout, std::byte* row, int64_t first, int64_t count,
             const float* values) {
  switch (layout.kind) {
    case PreparedKind::kF32:
      __builtin_memcpy(reinterpret_cast<float*>(row) + first, values,
                       static_cast<size_t>(count) * sizeof(float));
      return;
    case PreparedKind::kBf16:
      return PrepareBf16(values, count, reinterpret_cast<float*>(row) + first);
    case PreparedKind::kBf16Pairs:
      return PrepareBf16Pairs(values, count, row + 2 * first);
    case PreparedKind::kBf16Tiles:
      return PrepareTiles(values, first, count, layout.cols, row);
    case PreparedKind::kInt8:
      break;
  }
  Int8Group* const groups = reinterpret_cast<Int8Group*>(row) + first / kGroup;
  for (int64_t g = 0; g < count / kGroup; ++g) QuantiseGroup(values + g * kGroup, groups + g);
}

constexpr FloatKernels kFloatKernels = {FloatStrip, StoreTile, GateTile, Prepare};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
