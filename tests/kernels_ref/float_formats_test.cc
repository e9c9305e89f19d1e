// Every code of every small format against its definition by ldexp, and narrowing against a search
// for the nearest.
#include "kernels/float_formats.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/catch.h"

namespace modu::kernels {
namespace {

/// Value of a sign-exponent-mantissa code by the definition; NaN and infinity by the caller.
double Decode(uint32_t code, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>((code >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const bool negative = ((code >> (exponent_bits + mantissa_bits)) & 1) != 0;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
  return negative ? -magnitude : magnitude;
}

TEST_CASE("every float16 code widens as defined and comes back") {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = F16ToFloat(static_cast<uint16_t>(code));
    if (((code >> 10) & 31) == 31) {
      const bool nan = (code & 1023) != 0;
      REQUIRE((nan ? std::isnan(value) : std::isinf(value)));
      if (nan) {
        REQUIRE(std::isnan(F16ToFloat(FloatToF16(value))));
        continue;
      }
    } else {
      REQUIRE(value == Decode(code, 5, 10));
    }
    REQUIRE(std::signbit(value) == ((code >> 15) != 0));
    REQUIRE(FloatToF16(value) == code);
  }
}

TEST_CASE("every bfloat16 code widens as defined and comes back") {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = Bf16ToFloat(static_cast<uint16_t>(code));
    if (((code >> 7) & 255) == 255) {
      const bool nan = (code & 127) != 0;
      REQUIRE((nan ? std::isnan(value) : std::isinf(value)));
      if (nan) {
        REQUIRE(std::isnan(Bf16ToFloat(FloatToBf16(value))));
        continue;
      }
    } else {
      REQUIRE(value == Decode(code, 8, 7));
    }
    REQUIRE(FloatToBf16(value) == code);
  }
}

TEST_CASE("every FP8 E4M3 code widens as defined and comes back") {
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = F8E4M3ToFloat(static_cast<uint8_t>(code));
    if ((code & 127) == 127) {
      REQUIRE(std::isnan(value));
    } else {
      REQUIRE(value == Decode(code, 4, 3));
    }
    REQUIRE(FloatToF8E4M3(value) == code);
  }
}

/// Narrowing of a positive finite value by search: the nearest code, the even one of two.
template <typename Widen>
uint32_t Nearest(double value, uint32_t last_finite, Widen widen) {
  uint32_t low = 0, high = last_finite;
  while (low < high) {  // the last code not above value
    const uint32_t middle = (low + high + 1) / 2;
    if (static_cast<double>(widen(middle)) <= value) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  if (low == last_finite) return low;
  const double down = value - widen(low), up = static_cast<double>(widen(low + 1)) - value;
  if (down != up) return down < up ? low : low + 1;
  return low % 2 == 0 ? low : low + 1;
}

TEST_CASE("narrowing takes the nearest code, ties to even") {
  std::mt19937 random(7);
  const auto f16 = [](uint32_t code) { return F16ToFloat(static_cast<uint16_t>(code)); };
  const auto bf16 = [](uint32_t code) { return Bf16ToFloat(static_cast<uint16_t>(code)); };
  const auto f8 = [](uint32_t code) { return F8E4M3ToFloat(static_cast<uint8_t>(code)); };
  const auto check = [&](float value) {
    if (value < 65504.0f) REQUIRE(FloatToF16(value) == Nearest(value, 0x7bff, f16));
    REQUIRE(FloatToBf16(value) == Nearest(value, 0x7f7f, bf16));
    REQUIRE(FloatToF8E4M3(value) == Nearest(value, 0x7e, f8));
    REQUIRE(FloatToBf16(-value) == (FloatToBf16(value) | 0x8000));
    REQUIRE(FloatToF16(-value) == (FloatToF16(value) | 0x8000));
    REQUIRE(FloatToF8E4M3(-value) == (FloatToF8E4M3(value) | 0x80));
  };
  for (int i = 0; i < 100000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0x7fffffffu);
    if (std::isfinite(value) && value < 3.0e38f) check(value);
  }
  for (uint32_t code = 0; code < 0x7bff; code += 3) check((f16(code) + f16(code + 1)) / 2);
  for (uint32_t code = 0; code < 0x7e; ++code) check((f8(code) + f8(code + 1)) / 2);
  REQUIRE(FloatToF16(65519.9f) == 0x7bff);
  REQUIRE(FloatToF16(65520.0f) == 0x7c00);
  REQUIRE(FloatToBf16(3.4e38f) == 0x7f80);
  REQUIRE(FloatToF8E4M3(1e9f) == 0x7e);
}

}  // namespace
}  // namespace modu::kernels
