// Dequantisation against vectors by the reference implementation of GGUF (shared data), and,
// everywhere, against a second reading of the formats written bit by bit.
#include "kernels/ref/dequantize.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "kernels/float_formats.h"
#include "tests/catch.h"
#include "tests/shared_data.h"

namespace modu::kernels {
namespace {

std::vector<std::byte> FromHex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST_CASE("dequantisation gives the reference vectors") {
  const auto path = tests::SharedData("generation/dequant.json");
  if (!tests::HaveSharedData(path)) return;
  const auto vectors = nlohmann::json::parse(tests::ReadWholeFile(path));
  for (DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                     DType::kQ4K, DType::kQ5K, DType::kQ6K, DType::kF16, DType::kBF16}) {
    const DTypeTraits traits = TraitsOf(type);
    INFO(traits.name);
    const auto& entry = vectors.at(traits.name);
    if (traits.block_elements > 1) {
      REQUIRE(entry.at("block_values").get<int>() == traits.block_elements);
      REQUIRE(entry.at("block_bytes").get<int>() == traits.block_bytes);
    }
    int rows = 0;
    for (const auto& row : entry.at("rows")) {
      const auto bytes = FromHex(row.at("bytes").get<std::string>());
      const auto& expected = row.at("values");
      std::vector<float> values(expected.size());
      REQUIRE(RowBytes(type, static_cast<int64_t>(values.size())) ==
              static_cast<int64_t>(bytes.size()));
      DequantizeRow(type, bytes.data(), static_cast<int64_t>(values.size()), values.data());
      for (size_t i = 0; i < values.size(); ++i) {
        INFO("row " << rows << " value " << i);
        // The vectors are printed with about 8 digits.
        if (expected[i].is_number()) {
          const float want = expected[i].get<float>();
          REQUIRE(std::fabs(values[i] - want) <= 2e-7f * std::fabs(want) + 1e-12f);
        } else {
          REQUIRE_FALSE(std::isfinite(values[i]));
        }
      }
      ++rows;
    }
    REQUIRE(rows >= 3);
  }
}

TEST_CASE("every small quantised code, with a scale that shows its place") {
  // Q8_0: all int8 codes. d = 1, so values are the codes.
  for (int code = 0; code < 256; ++code) {
    std::vector<std::byte> block(34, static_cast<std::byte>(code));
    block[0] = std::byte{0x00}, block[1] = std::byte{0x3c};
    std::vector<float> values(32);
    DequantizeRow(DType::kQ8_0, block.data(), 32, values.data());
    for (float value : values) REQUIRE(value == static_cast<float>(static_cast<int8_t>(code)));
  }
  // Q4_0 and Q5_0: all nibble pairs at all places; the rest of the block is zero (value -8 or -16).
  for (int place = 0; place < 16; ++place) {
    for (int byte = 0; byte < 256; ++byte) {
      std::vector<std::byte> block(18, std::byte{0});
      block[1] = std::byte{0x3c};
      block[static_cast<size_t>(2 + place)] = static_cast<std::byte>(byte);
      std::vector<float> values(32);
      DequantizeRow(DType::kQ4_0, block.data(), 32, values.data());
      for (int i = 0; i < 32; ++i) {
        const int q = i == place ? byte % 16 : i == place + 16 ? byte / 16 : 0;
        REQUIRE(values[static_cast<size_t>(i)] == static_cast<float>(q - 8));
      }
    }
  }
  for (int bit = 0; bit < 32; ++bit) {
    std::vector<std::byte> block(22, std::byte{0});
    block[1] = std::byte{0x3c};
    block[static_cast<size_t>(2 + bit / 8)] = static_cast<std::byte>(1 << (bit % 8));
    std::vector<float> values(32);
    DequantizeRow(DType::kQ5_0, block.data(), 32, values.data());
    for (int i = 0; i < 32; ++i)
      REQUIRE(values[static_cast<size_t>(i)] == (i == bit ? 0.0f : -16.0f));
  }
}

TEST_CASE("rows may lie at any alignment") {
  std::mt19937 random(3);
  for (DType type :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kQ4_0, DType::kQ4_1,
        DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ4K, DType::kQ5K, DType::kQ6K}) {
    const auto bytes = static_cast<size_t>(RowBytes(type, 512));
    std::vector<std::byte> row(bytes + 1);
    for (auto& byte : row) byte = static_cast<std::byte>(random() & 0x3f);
    std::vector<std::byte> aligned(row.begin() + 1, row.end());
    std::vector<float> a(512), b(512);
    DequantizeRow(type, row.data() + 1, 512, a.data());
    DequantizeRow(type, aligned.data(), 512, b.data());
    REQUIRE(a == b);
  }
}

}  // namespace
}  // namespace modu::kernels
