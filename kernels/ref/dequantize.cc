#include "kernels/ref/dequantize.h"

#include <cstring>

#include "kernels/check.h"
#include "kernels/float_formats.h"

namespace modu::kernels {
namespace {

const uint8_t* Bytes(const std::byte* data) { return reinterpret_cast<const uint8_t*>(data); }

uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float LoadF16(const uint8_t* p) { return F16ToFloat(Load16(p)); }

// Blocks of 32. Element i < 16 is the low nibble of byte i, element i + 16 its high nibble.

void Q4_0(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 16; ++i) {
    const int byte = block[2 + i];
    out[i] = static_cast<float>((byte & 15) - 8) * d;
    out[i + 16] = static_cast<float>((byte >> 4) - 8) * d;
  }
}

void Q4_1(const uint8_t* block, float* out) {
  const float d = LoadF16(block), m = LoadF16(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int byte = block[4 + i];
    out[i] = static_cast<float>(byte & 15) * d + m;
    out[i + 16] = static_cast<float>(byte >> 4) * d + m;
  }
}

/// The fifth bits: bit j of the 32-bit word belongs to element j.
int FifthBit(const uint8_t* word, int j) { return ((word[j / 8] >> (j % 8)) & 1) << 4; }

void Q5_0(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 16; ++i) {
    const int byte = block[6 + i];
    out[i] = static_cast<float>(((byte & 15) | FifthBit(block + 2, i)) - 16) * d;
    out[i + 16] = static_cast<float>(((byte >> 4) | FifthBit(block + 2, i + 16)) - 16) * d;
  }
}

void Q5_1(const uint8_t* block, float* out) {
  const float d = LoadF16(block), m = LoadF16(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int byte = block[8 + i];
    out[i] = static_cast<float>((byte & 15) | FifthBit(block + 4, i)) * d + m;
    out[i + 16] = static_cast<float>((byte >> 4) | FifthBit(block + 4, i + 16)) * d + m;
  }
}

void Q8_0(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
}

// Super-blocks of 256: eight sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum in 12
// packed bytes.
struct ScaleMin {
  int scale, min;
};

ScaleMin UnpackScaleMin(const uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4),
          (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)};
}

/// d, dmin: f16; scales[12]; quants[128]: sub-blocks 2c and 2c+1 are the low and high nibbles of
/// bytes [32c, 32c+32).
void Q4K(const uint8_t* block, float* out) {
  const float d = LoadF16(block), dmin = LoadF16(block + 2);
  const uint8_t* quants = block + 16;
  for (int j = 0; j < 8; ++j) {
    const ScaleMin sm = UnpackScaleMin(block + 4, j);
    const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int byte = quants[j / 2 * 32 + i];
      out[j * 32 + i] = scale * static_cast<float>(j % 2 == 0 ? byte & 15 : byte >> 4) - min;
    }
  }
}

/// As Q4_K with high[32] between scales and quants: bit j of high[i] is the fifth bit of element i
/// of sub-block j.
void Q5K(const uint8_t* block, float* out) {
  const float d = LoadF16(block), dmin = LoadF16(block + 2);
  const uint8_t* high = block + 16;
  const uint8_t* quants = block + 48;
  for (int j = 0; j < 8; ++j) {
    const ScaleMin sm = UnpackScaleMin(block + 4, j);
    const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int byte = quants[j / 2 * 32 + i];
      const int q = (j % 2 == 0 ? byte & 15 : byte >> 4) | (((high[i] >> j) & 1) << 4);
      out[j * 32 + i] = scale * static_cast<float>(q) - min;
    }
  }
}

/// low[128], high[64], scales[16] int8 (one for 16 elements), d: f16. Each half of 128 elements is
/// four runs of 32.
void Q6K(const uint8_t* block, float* out) {
  const float d = LoadF16(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + half * 8);
    for (int run = 0; run < 4; ++run) {
      for (int i = 0; i < 32; ++i) {
        const int byte = low[(run % 2) * 32 + i];
        const int four = run < 2 ? byte & 15 : byte >> 4;
        const int q = (four | (((high[i] >> (2 * run)) & 3) << 4)) - 32;
        const float scale = d * static_cast<float>(scales[run * 2 + i / 16]);
        out[half * 128 + run * 32 + i] = scale * static_cast<float>(q);
      }
    }
  }
}

template <typename BlockFn>
void Blocks(DType type, const std::byte* data, int64_t cols, float* out, BlockFn block_fn) {
  const DTypeTraits traits = TraitsOf(type);
  MODU_CHECK(cols % traits.block_elements == 0);
  const uint8_t* block = Bytes(data);
  for (int64_t i = 0; i < cols; i += traits.block_elements, block += traits.block_bytes) {
    block_fn(block, out + i);
  }
}

}  // namespace

void DequantizeRow(DType type, const std::byte* data, int64_t cols, float* out) {
  const uint8_t* bytes = Bytes(data);
  switch (type) {
    case DType::kF32:
      std::memcpy(out, data, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < cols; ++i) out[i] = LoadF16(bytes + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < cols; ++i) out[i] = Bf16ToFloat(Load16(bytes + 2 * i));
      return;
    case DType::kF8E4M3:
      for (int64_t i = 0; i < cols; ++i) out[i] = F8E4M3ToFloat(bytes[i]);
      return;
    case DType::kQ4_0:
      return Blocks(type, data, cols, out, Q4_0);
    case DType::kQ4_1:
      return Blocks(type, data, cols, out, Q4_1);
    case DType::kQ5_0:
      return Blocks(type, data, cols, out, Q5_0);
    case DType::kQ5_1:
      return Blocks(type, data, cols, out, Q5_1);
    case DType::kQ8_0:
      return Blocks(type, data, cols, out, Q8_0);
    case DType::kQ4K:
      return Blocks(type, data, cols, out, Q4K);
    case DType::kQ5K:
      return Blocks(type, data, cols, out, Q5K);
    case DType::kQ6K:
      return Blocks(type, data, cols, out, Q6K);
    case DType::kI8:
      break;
  }
  MODU_CHECK(false);
}

}  // namespace modu::kernels
