// One group (32 inputs of 32 outputs, StripOrder::kByOutput) of any packed format to bf16 A tiles
// of 16 outputs, or half of it to one. With AVX512-BF16, which every processor with AMX has, and in
// plain code for the twin; the same bits. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/block_codes.h"
#if defined(__AVX512BF16__)
#include "kernels/cpu/f8_lookup-inl.h"
#endif
#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector_bf16-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kWeightRowBytes = 2 * kGroup;  // one output of a group

#if defined(__AVX512BF16__)

MODU_INLINE Float LoadF16(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
MODU_INLINE Float LoadF32(const std::byte* p) { return _mm512_loadu_ps(p); }
MODU_INLINE Float LoadInt8(const std::byte* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
MODU_INLINE void StoreWeights(std::byte* row, Float first, Float second) {
  _mm512_storeu_si512(row, RoundToBf16(first, second));
}

// Of a group's 32 outputs kCount from kFirst on: all, or the 16 of a tile.

/// Their scales as f32 in memory, from where a broadcast costs no arithmetic.
template <int kFirst, int kCount>
struct Scales {
  alignas(64) float of[kCount];
  MODU_INLINE void LoadF16From(const std::byte* p) {
    for (int i = 0; i < kCount; i += kLanes) Store(of + i, LoadF16(p + 2 * (kFirst + i)));
    asm("" : "+m"(of));  // else GCC keeps them in registers and permutes, on the busiest port
  }
  MODU_INLINE void LoadF32From(const std::byte* p) {
    for (int i = 0; i < kCount; i += kLanes) Store(of + i, LoadF32(p + 4 * (kFirst + i)));
    asm("" : "+m"(of));
  }
};

/// Four columns' codes lie in each word: shifted, its lowest bits are an index into the column's
/// table; the index's fifth bit is another column's, so a table is there twice.
template <int kFirst, int kCount>
MODU_INLINE void Decode4(const std::byte* group, const Scales<kFirst, kCount>& d,
                         const Scales<kFirst, kCount>& m, std::byte* out) {
  const Float steps = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 8
  for (int quad = 0; quad < kCount / 4; ++quad) {
    const Int codes = _mm512_loadu_si512(group + 64 * (kFirst / 4 + quad));
#pragma GCC unroll 2
    for (int pair = 0; pair < 2; ++pair) {
      const int n = 4 * quad + 2 * pair;
      const Int tables = RoundToBf16(Fma(steps, Set(d.of[n]), Set(m.of[n])),
                                     Fma(steps, Set(d.of[n + 1]), Set(m.of[n + 1])));
      const Int first = _mm512_shuffle_i64x2(tables, tables, 0x44);
      const Int second = _mm512_shuffle_i64x2(tables, tables, 0xEE);
      const Int at_first = pair == 0 ? codes : _mm512_srli_epi16(codes, 8);
      const Int at_second = _mm512_srli_epi16(codes, static_cast<unsigned>(8 * pair + 4));
      _mm512_storeu_si512(out + n * kWeightRowBytes, _mm512_permutexvar_epi16(at_first, first));
      _mm512_storeu_si512(out + (n + 1) * kWeightRowBytes,
                          _mm512_permutexvar_epi16(at_second, second));
    }
  }
}

/// Codes below 32, one a byte.
template <int kFirst, int kCount>
MODU_INLINE void Decode5(const std::byte* group, const Scales<kFirst, kCount>& d,
                         const Scales<kFirst, kCount>& m, std::byte* out) {
  const Float low = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const Float high = Add(low, Set(16.0f));
  group += kFirst * kGroup;
#pragma GCC unroll 4
  for (int n = 0; n < kCount; ++n) {
    const Float scale = Set(d.of[n]), min = Set(m.of[n]);
    const Int table = RoundToBf16(Fma(low, scale, min), Fma(high, scale, min));
    const Int codes = _mm512_cvtepu8_epi16(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group + n * kGroup)));
    _mm512_storeu_si512(out + n * kWeightRowBytes, _mm512_permutexvar_epi16(codes, table));
  }
}

/// Signed bytes; each half of the inputs has a scale.
template <int kFirst, int kCount>
MODU_INLINE void Decode8(const std::byte* group, const Scales<kFirst, kCount>& first,
                         const Scales<kFirst, kCount>& second, std::byte* out) {
  group += kFirst * kGroup;
#pragma GCC unroll 4
  for (int n = 0; n < kCount; ++n) {
    const std::byte* const codes = group + n * kGroup;
    StoreWeights(out + n * kWeightRowBytes, Mul(LoadInt8(codes), Set(first.of[n])),
                 Mul(LoadInt8(codes + 16), Set(second.of[n])));
  }
}

/// Two outputs at once.
template <int kFirst, int kCount>
MODU_INLINE void DecodeF8(const std::byte* group, std::byte* out) {
  const Int order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);  // eight codes of each in turn
  const F8Lookup lookup;
  group += kFirst * kGroup;
  for (int n = 0; n < kCount; n += 2, out += 2 * kWeightRowBytes) {
    const Int codes = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(group + n * kGroup));
    lookup.Store(codes, out, out + kWeightRowBytes);
  }
}

/// Elements of kBytes, 16 of which kLoad reads.
template <int kFirst, int kCount, int kBytes, Float (*kLoad)(const std::byte*)>
MODU_INLINE void DecodePlain(const std::byte* group, std::byte* out) {
  group += kFirst * kGroup * kBytes;
  for (int n = 0; n < kCount; ++n) {
    const std::byte* const row = group + n * kGroup * kBytes;
    StoreWeights(out + n * kWeightRowBytes, kLoad(row), kLoad(row + 16 * kBytes));
  }
}

/// (A copy of a known size becomes `rep movs`, which starts slowly.)
MODU_INLINE void CopyRows(const std::byte* rows, int count, std::byte* out) {
#pragma GCC unroll 8
  for (int64_t at = 0; at < count * int64_t{kWeightRowBytes}; at += kWeightRowBytes) {
    _mm512_storeu_si512(out + at, _mm512_loadu_si512(rows + at));
  }
}

/// out: [kCount outputs][32 inputs] bf16, an A tile for each 16.
template <int kFirst, int kCount>
MODU_INLINE void DecodeTiles(StripFormat format, const std::byte* group, std::byte* out) {
  Scales<kFirst, kCount> d, m;
  switch (format) {
    case StripFormat::kW4F16:
      d.LoadF16From(group + 512);
      m.LoadF16From(group + 576);
      return Decode4(group, d, m, out);
    case StripFormat::kW4F32:
      d.LoadF32From(group + 512);
      m.LoadF32From(group + 640);
      return Decode4(group, d, m, out);
    case StripFormat::kW8F16:
      d.LoadF16From(group + 1024);
      return Decode8(group, d, d, out);
    case StripFormat::kW8Min:
      d.LoadF32From(group + 1024);
      m.LoadF32From(group + 1152);
      return Decode5(group, d, m, out);
    case StripFormat::kW8Half:
      d.LoadF32From(group + 1024);
      m.LoadF32From(group + 1152);
      return Decode8(group, d, m, out);
    case StripFormat::kF32:
      return DecodePlain<kFirst, kCount, 4, LoadF32>(group, out);
    case StripFormat::kF16:
      return DecodePlain<kFirst, kCount, 2, LoadF16>(group, out);
    case StripFormat::kBF16:
      return CopyRows(group + kFirst * kWeightRowBytes, kCount, out);
    case StripFormat::kF8:
      return DecodeF8<kFirst, kCount>(group, out);
  }
}

#else

template <int kFirst, int kCount>
void DecodeTiles(StripFormat format, const std::byte* group, std::byte* out) {
  for (int n = 0; n < kCount; ++n) {
    alignas(64) float weights[kGroup];
    DecodeColumn(format, StripOrder::kByOutput, group, group + CodeBytes(format), kFirst + n,
                 kGroup, weights);
    Group half[2];
    for (int i = 0; i < 2; ++i) half[i] = LoadGroup(weights + 16 * i);
    StoreBf16(out + n * kWeightRowBytes, half[0], half[1]);
  }
}

#endif

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
