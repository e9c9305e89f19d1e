#include "kernels/cpu/block_codes.h"

#include <emmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/check.h"
#include "kernels/float_formats.h"

namespace modu::kernels::cpu {
namespace {

template <typename T>
T Load(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}
template <typename T>
void Store(void* p, T value) {
  std::memcpy(p, &value, sizeof(value));
}

constexpr uint64_t kLowNibbles = 0x0F0F0F0F0F0F0F0F;

/// 16 bytes: element i is the low nibble of byte i, element i + 16 the high one.
void UnpackNibbles(const uint8_t* bytes, uint8_t* code) {
  for (int i = 0; i < 2; ++i) {
    const uint64_t x = Load<uint64_t>(bytes + 8 * i);
    Store(code + 8 * i, x & kLowNibbles);
    Store(code + 16 + 8 * i, (x >> 4) & kLowNibbles);
  }
}

/// Bit j of the word is the fifth bit of element j.
void AddFifthBits(const uint8_t* word, uint8_t* code) {
  const uint32_t bits = Load<uint32_t>(word);
  for (int j = 0; j < 32; ++j) code[j] = static_cast<uint8_t>(code[j] | ((bits >> j & 1) << 4));
}

/// words[k] |= code[k] << bits, for the 32 codes of a group.
void AddToWords(const uint8_t* code, int bits, std::byte* words) {
  const __m128i up = _mm_cvtsi32_si128(bits), zero = _mm_setzero_si128();
  auto* const to = reinterpret_cast<__m128i*>(words);
  for (int half = 0; half < 2; ++half) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(code) + half);
    const __m128i spread[2] = {_mm_unpacklo_epi8(x, zero), _mm_unpackhi_epi8(x, zero)};
    for (int i = 0; i < 2; ++i) {
      __m128i* const word = to + 2 * half + i;
      _mm_storeu_si128(word, _mm_or_si128(_mm_loadu_si128(word), _mm_sll_epi16(spread[i], up)));
    }
  }
}

/// f16 bits of -8 d, which is exact: three more in the exponent, or a subnormal shifted.
uint16_t MinusEight(uint16_t d) { return FloatToF16(-8.0f * F16ToFloat(d)); }

/// The 6-bit scale and minimum of sub-block j of a K-quant super-block, from its 12 packed bytes.
void ScaleAndMin(const uint8_t* packed, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
    *min = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  }
}

void ReadKQuantScales(const uint8_t* block, int j, GroupCodes* codes) {
  int scale = 0, min = 0;
  ScaleAndMin(block + 4, j, &scale, &min);
  codes->d = F16ToFloat(Load<uint16_t>(block)) * static_cast<float>(scale);
  codes->m = -(F16ToFloat(Load<uint16_t>(block + 2)) * static_cast<float>(min));
}

void ReadKQuantNibbles(const uint8_t* quants, int j, uint8_t* code) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t x = Load<uint64_t>(quants + j / 2 * 32 + 8 * i);
    Store(code + 8 * i, (j % 2 == 0 ? x : x >> 4) & kLowNibbles);
  }
}

void ReadQ6K(const uint8_t* block, int j, GroupCodes* codes) {
  const int half = j / 4, run = j % 4;
  const uint8_t* low = block + half * 64 + run % 2 * 32;
  const uint8_t* high = block + 128 + half * 32;
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + half * 8 + run * 2);
  for (int i = 0; i < 32; ++i) {
    const int four = run < 2 ? low[i] & 15 : low[i] >> 4;
    codes->code[i] = static_cast<uint8_t>((four | ((high[i] >> (2 * run) & 3) << 4)) - 32);
  }
  const float d = F16ToFloat(Load<uint16_t>(block + 208));
  codes->d = d * static_cast<float>(scales[0]);
  codes->m = d * static_cast<float>(scales[1]);
}

}  // namespace

StripFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ4_1:
      return StripFormat::kW4F16;
    case DType::kQ4K:
      return StripFormat::kW4F32;
    case DType::kQ8_0:
      return StripFormat::kW8F16;
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ5K:
      return StripFormat::kW8Min;
    case DType::kQ6K:
      return StripFormat::kW8Half;
    case DType::kF32:
      return StripFormat::kF32;
    case DType::kF16:
      return StripFormat::kF16;
    case DType::kBF16:
      return StripFormat::kBF16;
    case DType::kF8E4M3:
      return StripFormat::kF8;
    case DType::kI8:
      break;
  }
  MODU_CHECK(false);
  return StripFormat::kF32;
}

void ReadGroup(DType dtype, const std::byte* row, int64_t g, GroupCodes* codes) {
  const DTypeTraits traits = TraitsOf(dtype);
  const int64_t groups_a_block = traits.block_elements / kGroup;
  const auto* block =
      reinterpret_cast<const uint8_t*>(row) + g / groups_a_block * traits.block_bytes;
  const auto j = static_cast<int>(g % groups_a_block);
  switch (dtype) {
    case DType::kQ4_0:
      codes->d16 = Load<uint16_t>(block);
      codes->m16 = MinusEight(codes->d16);
      return UnpackNibbles(block + 2, codes->code);
    case DType::kQ4_1:
      codes->d16 = Load<uint16_t>(block);
      codes->m16 = Load<uint16_t>(block + 2);
      return UnpackNibbles(block + 4, codes->code);
    case DType::kQ5_0:
      codes->d = F16ToFloat(Load<uint16_t>(block));
      codes->m = -16 * codes->d;
      UnpackNibbles(block + 6, codes->code);
      return AddFifthBits(block + 2, codes->code);
    case DType::kQ5_1:
      codes->d = F16ToFloat(Load<uint16_t>(block));
      codes->m = F16ToFloat(Load<uint16_t>(block + 2));
      UnpackNibbles(block + 8, codes->code);
      return AddFifthBits(block + 4, codes->code);
    case DType::kQ8_0:
      codes->d16 = Load<uint16_t>(block);
      for (int i = 0; i < 4; ++i) {
        Store(codes->code + 8 * i, Load<uint64_t>(block + 2 + 8 * i) ^ 0x8080808080808080);
      }
      return;
    case DType::kQ4K:
      ReadKQuantScales(block, j, codes);
      return ReadKQuantNibbles(block + 16, j, codes->code);
    case DType::kQ5K:
      ReadKQuantScales(block, j, codes);
      ReadKQuantNibbles(block + 48, j, codes->code);
      for (int i = 0; i < 32; ++i) {
        codes->code[i] = static_cast<uint8_t>(codes->code[i] | ((block[16 + i] >> j & 1) << 4));
      }
      return;
    case DType::kQ6K:
      return ReadQ6K(block, j, codes);
    default:
      MODU_CHECK(false);
  }
}

void WriteCodes(StripFormat format, StripOrder order, const GroupCodes& codes, int n,
                std::byte* group) {
  const bool nibbles = format == StripFormat::kW4F16 || format == StripFormat::kW4F32;
  if (order == StripOrder::kByOutput && nibbles) {
    AddToWords(codes.code, n % 4 * 4, group + n / 4 * kGroup * sizeof(uint16_t));
  } else if (order == StripOrder::kByOutput) {
    const uint8_t flipped = format == StripFormat::kW8F16 ? 0x80 : 0;
    uint8_t bytes[kGroup];
    for (int k = 0; k < kGroup; ++k) bytes[k] = codes.code[k] ^ flipped;
    std::memcpy(group + n * kGroup, bytes, sizeof(bytes));
  } else if (nibbles) {
    std::byte* const tile = group + n / 16 * 256 + n % 16 * 4;
    for (int z = 0; z < 4; ++z) {
      Store(tile + 64 * z,
            Load<uint32_t>(codes.code + 8 * z) | Load<uint32_t>(codes.code + 8 * z + 4) << 4);
    }
  } else {
    std::byte* const tile = group + n / 16 * 512 + n % 16 * 4;
    for (int z = 0; z < 8; ++z) Store(tile + 64 * z, Load<uint32_t>(codes.code + 4 * z));
  }
}

void WriteScales(StripFormat format, const GroupCodes& codes, int n, std::byte* at) {
  switch (format) {
    case StripFormat::kW4F16:
      Store(at + 2 * n, codes.d16);
      Store(at + 64 + 2 * n, codes.m16);
      return;
    case StripFormat::kW8F16:
      return Store(at + 2 * n, codes.d16);
    case StripFormat::kW4F32:
    case StripFormat::kW8Min:
    case StripFormat::kW8Half:
      Store(at + 4 * n, codes.d);
      Store(at + 128 + 4 * n, codes.m);
      return;
    default:
      MODU_CHECK(false);
  }
}

int64_t ChunkBytes(StripFormat format, int64_t groups) {
  return kUnitsBytes + PairsOf(groups) * PairBytes(format);
}

int64_t CodesInChunks(StripFormat format, int64_t g) {
  constexpr int64_t kGroups = 2 * kChunkPairs;
  return g / kGroups * ChunkBytes(format, kGroups) + kUnitsBytes +
         g % kGroups / 2 * PairBytes(format) + (1 - g % 2) * CodeBytes(format);
}

namespace {

/// A group's factors in whole numbers: of d (or the halves' two), then of the minimum, if any.
struct Factors {
  float value[2];
  int count;
};
Factors FactorsOf(StripFormat format, const GroupCodes& codes) {
  const bool f16 = format == StripFormat::kW4F16 || format == StripFormat::kW8F16;
  const float d = f16 ? F16ToFloat(codes.d16) : codes.d;
  const float m = f16 ? F16ToFloat(codes.m16) : codes.m;
  if (format == StripFormat::kW8F16) return {{d, 0}, 1};
  if (format == StripFormat::kW8Half) return {{d, m}, 2};
  // Totals count in eighths, and beside products that are shifted.
  return {{d, (m + static_cast<float>(CodeMiddle(format)) * d) /
                  static_cast<float>(8 << ProductShift(format))},
          2};
}

}  // namespace

void WriteChunk(StripFormat format, std::span<const GroupCodes> groups, int n, std::byte* chunk) {
  MODU_CHECK(groups.size() <= 2 * kChunkPairs);
  Factors factors[2 * kChunkPairs];
  float sum = 0, most[2] = {};
  for (size_t g = 0; g < groups.size(); ++g) {
    factors[g] = FactorsOf(format, groups[g]);
    for (int i = 0; i < factors[g].count; ++i) {
      const float size = std::fabs(factors[g].value[i]);
      sum += size;
      most[i] = std::max(most[i], size);
    }
  }
  // All factors below 2^16 together, of which rounding takes at most 64: times halves of at most
  // 2^15 - 1 they stay below 2^31. Those of d in 13 bits, for what centres multiply (CentreFactors
  // in int8_join-inl.h), the minimum's in 16.
  const float most_of_second = format == StripFormat::kW8Half ? 4095.0f : 32766.0f;
  float unit = std::max({sum / 65400.0f, most[0] / 4095.0f, most[1] / most_of_second});
  const float inverse = unit >= 1e-30f ? 1.0f / unit : 0.0f;
  if (!std::isfinite(sum)) unit = std::numeric_limits<float>::quiet_NaN();
  Store(chunk + 4 * n, unit * static_cast<float>(1 << ProductShift(format)));
  for (size_t g = 0; g < groups.size(); ++g) {
    std::byte* const pair = chunk + kUnitsBytes + static_cast<int64_t>(g / 2) * PairBytes(format);
    WriteCodes(format, StripOrder::kByInput, groups[g], n,
               pair + static_cast<int64_t>(1 - g % 2) * CodeBytes(format));
    if (std::isnan(unit)) continue;
    for (int i = 0; i < factors[g].count; ++i) {
      const long whole = std::lrint(factors[g].value[i] * inverse);
      Store(pair + 2 * CodeBytes(format) + 128 * i + 4 * n + 2 * static_cast<int64_t>(g % 2),
            static_cast<int16_t>(whole));
    }
  }
}

namespace {

/// Column n's codes of a group, as GroupCodes has them (kByOutput keeps those of kW8F16 signed).
void ReadCodes(StripFormat format, StripOrder order, const std::byte* group, int n,
               uint8_t (&code)[kGroup]) {
  const auto byte = [&](int at) { return std::to_integer<uint8_t>(group[at]); };
  const bool nibbles = format == StripFormat::kW4F16 || format == StripFormat::kW4F32;
  if (order == StripOrder::kByOutput) {
    const int flip = format == StripFormat::kW8F16 ? 0x80 : 0;
    for (int k = 0; k < kGroup; ++k) {
      code[k] =
          static_cast<uint8_t>(nibbles ? byte(n / 4 * 64 + 2 * k + n % 4 / 2) >> n % 2 * 4 & 15
                                       : byte(n * kGroup + k) ^ flip);
    }
    return;
  }
  group += n / 16 * (nibbles ? 256 : 512) + n % 16 * 4;
  for (int k = 0; k < kGroup; ++k) {
    if (!nibbles) {
      code[k] = byte(k / 4 * 64 + k % 4);
    } else {
      const int both = byte(k / 8 * 64 + k % 4);
      code[k] = static_cast<uint8_t>(k % 8 < 4 ? both & 15 : both >> 4);
    }
  }
}

}  // namespace

int64_t PlainOffset(StripFormat format, StripOrder order, int n, int k) {
  const int64_t bytes = CodeBytes(format) / (kGroup * kStrip);
  if (order == StripOrder::kByOutput) return bytes * (n * kGroup + k);
  if (format == StripFormat::kBF16) return 2 * ((k / 2 * kStrip + n) * 2 + k % 2);
  return bytes * (k * kStrip + n);
}

void DecodeColumn(StripFormat format, StripOrder order, const std::byte* codes,
                  const std::byte* scales, int n, int inputs, float* out) {
  const auto plain = [&](int k) { return codes + PlainOffset(format, order, n, k); };
  const auto f16 = [&](int offset) { return F16ToFloat(Load<uint16_t>(scales + offset + 2 * n)); };
  const auto f32 = [&](int offset) { return Load<float>(scales + offset + 4 * n); };
  uint8_t code[kGroup];
  if (IsQuantised(format)) ReadCodes(format, order, codes, n, code);
  // Rounded once; without the instruction, which this file may not use, std::fma is slow.
  const auto affine_f32 = [&](float d, float least) {
    for (int k = 0; k < kGroup; ++k) out[k] = std::fma(static_cast<float>(code[k]), d, least);
  };
  // The product of a code and an f16 is exact.
  const auto affine_f16 = [&](int offset, float d, float least) {
    for (int k = 0; k < kGroup; ++k) {
      out[k] = static_cast<float>(int{code[k]} - offset) * d + least;
    }
  };
  switch (format) {
    case StripFormat::kW4F16:
      return affine_f16(0, f16(0), f16(64));
    case StripFormat::kW4F32:
      return affine_f32(f32(0), f32(128));
    case StripFormat::kW8F16:
      return affine_f16(128, f16(0), 0);
    case StripFormat::kW8Min:
      return affine_f32(f32(0), f32(128));
    case StripFormat::kW8Half:
      for (int k = 0; k < kGroup; ++k) {
        out[k] = static_cast<float>(static_cast<int8_t>(code[k])) * f32(k < 16 ? 0 : 128);
      }
      return;
    case StripFormat::kF32:
      for (int k = 0; k < inputs; ++k) out[k] = Load<float>(plain(k));
      return;
    case StripFormat::kF16:
      for (int k = 0; k < inputs; ++k) out[k] = F16ToFloat(Load<uint16_t>(plain(k)));
      return;
    case StripFormat::kBF16:
      for (int k = 0; k < inputs; ++k) out[k] = Bf16ToFloat(Load<uint16_t>(plain(k)));
      return;
    case StripFormat::kF8:
      for (int k = 0; k < inputs; ++k) {
        out[k] = F8E4M3ToFloat(std::to_integer<uint8_t>(*plain(k)));
      }
      return;
  }
}

}  // namespace modu::kernels::cpu
