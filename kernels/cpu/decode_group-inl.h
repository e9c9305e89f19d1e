// One group (32 inputs of 32 outputs) of any packed format to f32, on AVX2 instructions, which
// every instruction set of this backend has. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

MODU_INLINE __m256i LoadInts(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
MODU_INLINE __m128i LoadHalf(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
MODU_INLINE __m256 LoadF16(const std::byte* p) { return _mm256_cvtph_ps(LoadHalf(p)); }
MODU_INLINE __m256 LoadF32(const std::byte* p) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
}

/// Nearest even; a weight that is NaN stays NaN (quiet ones with a clear low half, as files have).
MODU_INLINE __m256 RoundToBf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(
      _mm256_and_si256(rounded, _mm256_set1_epi32(static_cast<int>(0xFFFF0000))));
}

template <bool kRound>
MODU_INLINE void Put(float* panel, int k, int vector, __m256 x) {
  _mm256_storeu_ps(panel + k * kStrip + vector * 8, kRound ? RoundToBf16(x) : x);
}

/// Columns 8*vector.. of a group of 4-bit codes: q*d + m.
template <bool kRound>
MODU_INLINE void Decode4(const std::byte* group, int vector, __m256 d, __m256 m, float* panel) {
  const std::byte* codes = group + vector / 2 * 256 + vector % 2 * 32;
  for (int z = 0; z < 4; ++z) {
    __m256i x = LoadInts(codes + 64 * z);
    for (int nibble = 0; nibble < 8; ++nibble) {
      const __m256 q = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(15)));
      Put<kRound>(panel, 8 * z + nibble / 2 + nibble % 2 * 4, vector, _mm256_fmadd_ps(q, d, m));
      x = _mm256_srli_epi32(x, 4);
    }
  }
}

/// Columns 8*vector.. of inputs [4*first, 4*last) of a group of 8-bit codes: (code - offset)*d + m.
template <bool kRound, bool kSigned>
MODU_INLINE void Decode8(const std::byte* group, int vector, int first, int last, int offset,
                         __m256 d, __m256 m, float* panel) {
  const std::byte* codes = group + vector / 2 * 512 + vector % 2 * 32;
  for (int z = first; z < last; ++z) {
    const __m256i x = LoadInts(codes + 64 * z);
    for (int byte = 0; byte < 4; ++byte) {
      const __m256i top = _mm256_sll_epi32(x, _mm_cvtsi32_si128(24 - 8 * byte));
      const __m256i code = kSigned ? _mm256_srai_epi32(top, 24) : _mm256_srli_epi32(top, 24);
      const __m256 q = _mm256_cvtepi32_ps(_mm256_sub_epi32(code, _mm256_set1_epi32(offset)));
      Put<kRound>(panel, 4 * z + byte, vector, _mm256_fmadd_ps(q, d, m));
    }
  }
}

/// panel: [32][32] f32, input-major. `inputs`: how many of the group's inputs exist (plain
/// formats).
template <bool kRound>
MODU_INLINE void DecodeGroup(StripFormat format, const std::byte* group, int inputs, float* panel) {
  const __m256 zero = _mm256_setzero_ps();
  switch (format) {
    case StripFormat::kW4F16:
      for (int v = 0; v < 4; ++v) {
        Decode4<kRound>(group, v, LoadF16(group + 512 + 16 * v), LoadF16(group + 576 + 16 * v),
                        panel);
      }
      return;
    case StripFormat::kW4F32:
      for (int v = 0; v < 4; ++v) {
        Decode4<kRound>(group, v, LoadF32(group + 512 + 32 * v), LoadF32(group + 640 + 32 * v),
                        panel);
      }
      return;
    case StripFormat::kW8F16:
      for (int v = 0; v < 4; ++v) {
        Decode8<kRound, false>(group, v, 0, 8, 128, LoadF16(group + 1024 + 16 * v), zero, panel);
      }
      return;
    case StripFormat::kW8Min:
      for (int v = 0; v < 4; ++v) {
        Decode8<kRound, false>(group, v, 0, 8, 0, LoadF32(group + 1024 + 32 * v),
                               LoadF32(group + 1152 + 32 * v), panel);
      }
      return;
    case StripFormat::kW8Half:
      for (int v = 0; v < 4; ++v) {
        Decode8<kRound, true>(group, v, 0, 4, 0, LoadF32(group + 1024 + 32 * v), zero, panel);
        Decode8<kRound, true>(group, v, 4, 8, 0, LoadF32(group + 1152 + 32 * v), zero, panel);
      }
      return;
    case StripFormat::kF32:
      for (int i = 0; i < inputs * 4; ++i) {
        Put<kRound>(panel, 0, i, LoadF32(group + 32 * i));
      }
      return;
    case StripFormat::kF16:
      for (int i = 0; i < inputs * 4; ++i) {
        Put<kRound>(panel, 0, i, LoadF16(group + 16 * i));
      }
      return;
    case StripFormat::kBF16: {
      const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000));
      for (int i = 0; i < inputs / 2 * 4; ++i) {
        const __m256i pairs = LoadInts(group + 32 * i);
        float* const even = panel + i / 4 * 2 * kStrip + i % 4 * 8;
        _mm256_storeu_ps(even, _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)));
        _mm256_storeu_ps(even + kStrip, _mm256_castsi256_ps(_mm256_and_si256(pairs, upper)));
      }
      return;
    }
    case StripFormat::kF8: {
      // E4M3's seven magnitude bits are binary16's with an exponent 8 too small, subnormals
      // included; the NaN codes would read as 480 and are refused when a file is loaded.
      const __m256i mask = _mm256_set1_epi16(static_cast<short>(0xBF80));
      const __m256 factor = _mm256_set1_ps(256.0f);
      for (int i = 0; i < inputs * 2; ++i) {
        const __m256i half = _mm256_and_si256(
            _mm256_slli_epi16(_mm256_cvtepi8_epi16(LoadHalf(group + 16 * i)), 7), mask);
        _mm256_storeu_ps(panel + 16 * i,
                         _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), factor));
        _mm256_storeu_ps(panel + 16 * i + 8,
                         _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), factor));
      }
      return;
    }
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
