// Random matrices in every checkpoint type, with scales such that dequantised weights have about
// unit size divided by sqrt(K).
#pragma once
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/device.h"
#include "kernels/float_formats.h"

namespace modu::tests {

/// What a matrix may be stored as.
constexpr kernels::DType kAllTypes[] = {
    kernels::DType::kF32,  kernels::DType::kF16,  kernels::DType::kBF16, kernels::DType::kF8E4M3,
    kernels::DType::kQ4_0, kernels::DType::kQ4_1, kernels::DType::kQ5_0, kernels::DType::kQ5_1,
    kernels::DType::kQ8_0, kernels::DType::kQ4K,  kernels::DType::kQ5K,  kernels::DType::kQ6K};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint32_t Bits() { return static_cast<uint32_t>(engine_()); }
  float Gaussian() { return normal_(engine_); }
  float Between(float low, float high) {
    return low + (high - low) * static_cast<float>(Bits() >> 8) * 0x1p-24f;
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<float> normal_;
};

class RandomMatrix {
 public:
  /// fill >= 0: every code byte is that value instead of random ones.
  RandomMatrix(kernels::DType dtype, int64_t rows, int64_t cols, uint64_t seed, int fill = -1)
      : dtype_(dtype), rows_(rows), cols_(cols) {
    Random random(seed);
    const kernels::DTypeTraits traits = kernels::TraitsOf(dtype);
    bytes_.resize(static_cast<size_t>(rows * kernels::RowBytes(dtype, cols)));
    for (std::byte& byte : bytes_) {
      byte = static_cast<std::byte>(fill >= 0 ? static_cast<uint32_t>(fill) : random.Bits() & 255);
    }
    const float unit = 1.0f / std::sqrt(static_cast<float>(cols));
    for (size_t at = 0; at < bytes_.size(); at += static_cast<size_t>(traits.block_bytes)) {
      WriteScales(random, unit, at);
    }
  }

  kernels::WeightSource source() const { return {dtype_, rows_, cols_, bytes_.data(), nullptr, 0}; }
  const std::byte* row(int64_t row) const {
    return bytes_.data() + row * kernels::RowBytes(dtype_, cols_);
  }

 private:
  void F16(size_t at, float value) {
    const uint16_t bits = kernels::FloatToF16(value);
    std::memcpy(bytes_.data() + at, &bits, sizeof(bits));
  }

  void WriteScales(Random& random, float unit, size_t at) {
    using kernels::DType;
    const float d = unit * random.Between(0.5f, 1.5f);
    switch (dtype_) {
      case DType::kF32: {
        const float value = unit * random.Gaussian();
        std::memcpy(bytes_.data() + at, &value, sizeof(value));
        return;
      }
      case DType::kF16:
        F16(at, unit * random.Gaussian());
        return;
      case DType::kBF16: {
        const uint16_t bits = kernels::FloatToBf16(unit * random.Gaussian());
        std::memcpy(bytes_.data() + at, &bits, sizeof(bits));
        return;
      }
      case DType::kI8:
        break;  // no weights' type
      case DType::kF8E4M3:
        bytes_[at] = static_cast<std::byte>(kernels::FloatToF8E4M3(random.Gaussian()));
        return;
      // Every sign of d and m, and now and then a scale of zero or one below the normal numbers.
      case DType::kQ4_0:
        F16(at, Scale(random, d / 4));
        return;
      case DType::kQ5_0:
        F16(at, Scale(random, d / 8));
        return;
      case DType::kQ8_0:
        F16(at, Scale(random, d / 64));
        return;
      case DType::kQ4_1:
        F16(at, Scale(random, d / 4));
        F16(at + 2, -2 * d * random.Between(-0.1f, 1));
        return;
      case DType::kQ5_1:
        F16(at, Scale(random, d / 8));
        F16(at + 2, -2 * d * random.Between(-0.1f, 1));
        return;
      case DType::kQ4K:
        F16(at, Scale(random, d / 128));
        F16(at + 2, d / 32);
        return;
      case DType::kQ5K:
        F16(at, Scale(random, d / 256));
        F16(at + 2, d / 32);
        return;
      case DType::kQ6K:
        F16(at + 208, Scale(random, d / 1024));
        return;
    }
  }

  static float Scale(Random& random, float d) {
    const uint32_t dice = random.Bits() % 64;
    if (dice == 0) return 0;
    if (dice == 1) return 3e-6f;  // subnormal in f16
    return dice % 5 == 0 ? -d : d;
  }

  kernels::DType dtype_;
  int64_t rows_, cols_;
  std::vector<std::byte> bytes_;
};

}  // namespace modu::tests
