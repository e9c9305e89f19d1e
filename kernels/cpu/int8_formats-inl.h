// How a group of each quantised strip format lies in memory, for the int8 products of all
// instruction sets. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kVectorsPerStrip = kStrip / kLanes;

#if defined(MODU_VECTOR_AVX512)
MODU_INLINE Int UpperHalves(Int x) { return _mm512_srli_epi32(x, 16); }
MODU_INLINE Int LoadCodes(const std::byte* p) { return _mm512_loadu_si512(p); }
MODU_INLINE void StoreInt(std::byte* p, Int x) { _mm512_storeu_si512(p, x); }
MODU_INLINE Int SetInt(int x) { return _mm512_set1_epi32(x); }
MODU_INLINE Int SubInt(Int a, Int b) { return _mm512_sub_epi32(a, b); }
MODU_INLINE Float ToFloat(Int x) { return _mm512_cvtepi32_ps(x); }
MODU_INLINE Int LowNibbles(Int x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
MODU_INLINE Int HighNibbles(Int x) { return LowNibbles(_mm512_srli_epi16(x, 4)); }
MODU_INLINE Float LoadF16Scales(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
MODU_INLINE Int AddCodes(Int a, Int b) { return _mm512_add_epi8(a, b); }
/// The sums of the four bytes, below 128, of each column.
MODU_INLINE Int AddFour(Int codes) {
  return _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_set1_epi8(1));
}
MODU_INLINE Int LoadInt16(const std::byte* p) {
  return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
#else
MODU_INLINE Int UpperHalves(Int x) { return _mm256_srli_epi32(x, 16); }
MODU_INLINE Int LoadCodes(const std::byte* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
MODU_INLINE void StoreInt(std::byte* p, Int x) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(p), x);
}
MODU_INLINE Int SetInt(int x) { return _mm256_set1_epi32(x); }
MODU_INLINE Int SubInt(Int a, Int b) { return _mm256_sub_epi32(a, b); }
MODU_INLINE Float ToFloat(Int x) { return _mm256_cvtepi32_ps(x); }
MODU_INLINE Int LowNibbles(Int x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
MODU_INLINE Int HighNibbles(Int x) { return LowNibbles(_mm256_srli_epi16(x, 4)); }
MODU_INLINE Float LoadF16Scales(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
}
MODU_INLINE Int AddCodes(Int a, Int b) { return _mm256_add_epi8(a, b); }
/// The sums of the four bytes, below 128, of each column.
MODU_INLINE Int AddFour(Int codes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
MODU_INLINE Int LoadInt16(const std::byte* p) {
  return _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
}
#endif

/// One register of the 32 scales of an array in a group; `vector` counts registers of columns.
struct F16Scales {
  static constexpr int kBytes = 64;
  /// bf16 instead of f16, in the low halves.
  static MODU_INLINE Int LoadBf16(const std::byte* array, int vector) {
    return LoadInt16(array + 2 * kLanes * vector);
  }
  static MODU_INLINE Float Load(const std::byte* array, int vector) {
    return LoadF16Scales(array + 2 * kLanes * vector);
  }
};
struct F32Scales {
  static constexpr int kBytes = 128;
  static MODU_INLINE Int LoadBf16(const std::byte* array, int vector) {
    return UpperHalves(LoadCodes(array + 4 * kLanes * vector));
  }
  static MODU_INLINE Float Load(const std::byte* array, int vector) {
    return kernels::cpu::MODU_ISA::Load(reinterpret_cast<const float*>(array) + kLanes * vector);
  }
};

/// The 64-byte line z of the codes of register `vector`'s columns.
template <int kBytesPer16Columns>
MODU_INLINE const std::byte* CodesAt(const std::byte* group, int vector, int z) {
  const int column = vector * kLanes;
  return group + column / 16 * kBytesPer16Columns + column % 16 * 4 + 64 * z;
}

/// Two codes a byte; a line holds 8 inputs of 16 columns.
template <typename Scales, StripFormat kStripFormat>
struct W4 {
  static constexpr StripFormat kFormat = kStripFormat;
  static constexpr int64_t kGroupBytes = GroupBytes(kFormat) + SumBytes(kFormat);
  static constexpr bool kNibbles = true, kSigned = false, kMin = true;
  static constexpr int kParts = 1;   // stretches of inputs with a d of their own
  static constexpr int kOffset = 0;  // of the codes
  static constexpr int kMiddle = 8;  // of their range
  static MODU_INLINE Float D(const std::byte* group, int, int vector) {
    return Scales::Load(group + 512, vector);
  }
  static MODU_INLINE Float M(const std::byte* group, int vector) {
    return Scales::Load(group + 512 + Scales::kBytes, vector);
  }
  /// In the low halves, of strips that hold it.
  static MODU_INLINE Int Mu(const std::byte* group, int vector) {
    return Scales::LoadBf16(group + 512 + Scales::kBytes, vector);
  }
};
using W4F16 = W4<F16Scales, StripFormat::kW4F16>;
using W4F32 = W4<F32Scales, StripFormat::kW4F32>;

/// One code a byte; a line holds 4 inputs of 16 columns.
struct W8F16 {
  static constexpr StripFormat kFormat = StripFormat::kW8F16;
  static constexpr int64_t kGroupBytes = GroupBytes(kFormat) + SumBytes(kFormat);
  static constexpr bool kNibbles = false, kSigned = false, kMin = false;
  static constexpr int kParts = 1, kOffset = 128;
  static MODU_INLINE Float D(const std::byte* group, int, int vector) {
    return F16Scales::Load(group + 1024, vector);
  }
  static MODU_INLINE Float M(const std::byte*, int) { return Zero(); }
};

struct W8Min {
  static constexpr StripFormat kFormat = StripFormat::kW8Min;
  static constexpr int64_t kGroupBytes = GroupBytes(kFormat) + SumBytes(kFormat);
  static constexpr bool kNibbles = false, kSigned = false, kMin = true;
  static constexpr int kParts = 1, kOffset = 0, kMiddle = 16;
  static MODU_INLINE Float D(const std::byte* group, int, int vector) {
    return F32Scales::Load(group + 1024, vector);
  }
  static MODU_INLINE Float M(const std::byte* group, int vector) {
    return F32Scales::Load(group + 1024 + F32Scales::kBytes, vector);
  }
  static MODU_INLINE Int Mu(const std::byte* group, int vector) {
    return F32Scales::LoadBf16(group + 1024 + F32Scales::kBytes, vector);
  }
};

struct W8Half {
  static constexpr StripFormat kFormat = StripFormat::kW8Half;
  static constexpr int64_t kGroupBytes = GroupBytes(kFormat) + SumBytes(kFormat);
  static constexpr bool kNibbles = false, kSigned = true, kMin = false;
  static constexpr int kParts = 2, kOffset = 0;
  static MODU_INLINE Float D(const std::byte* group, int part, int vector) {
    return F32Scales::Load(group + 1024 + F32Scales::kBytes * part, vector);
  }
  static MODU_INLINE Float M(const std::byte*, int) { return Zero(); }
};

/// The sums of the codes of a group or half, as they count: what a group's centre multiplies.
template <typename Format>
MODU_INLINE Float CodeSums(const std::byte* group, int part, int vector) {
  if constexpr (Format::kNibbles) {
    Int codes = SetInt(0);  // at most 8 * 15 in a byte
#pragma GCC unroll 4
    for (int z = 0; z < 4; ++z) {
      const Int x = LoadCodes(CodesAt<256>(group, vector, z));
      codes = AddCodes(codes, AddCodes(LowNibbles(x), HighNibbles(x)));
    }
    return ToFloat(AddFour(codes));
  }
  const std::byte* const sums = group + GroupBytes(Format::kFormat) + 64 * part;
  return ToFloat(LoadInt16(sums + 2 * kLanes * vector));
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
