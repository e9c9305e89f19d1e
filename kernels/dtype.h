// Element and block types of tensors as they lie in checkpoint files, and of activations and KV.
// Block layouts follow the GGUF specification (ggml's block_q*_* structs); F8 is OCP FP8 E4M3FN.
#pragma once
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

namespace modu::kernels {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kI8,  // KV only, with scales beside it (kv_codes.h)
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,  // blocks of 32
  kQ4K,
  kQ5K,
  kQ6K,  // super-blocks of 256
};

struct DTypeTraits {
  const char* name;    // the files' own spelling, e.g. "Q4_1"
  int block_elements;  // elements a block holds; 1 for plain types
  int block_bytes;     // bytes of that block
};

constexpr DTypeTraits TraitsOf(DType type) {
  switch (type) {
    case DType::kF32:
      return {"F32", 1, 4};
    case DType::kF16:
      return {"F16", 1, 2};
    case DType::kBF16:
      return {"BF16", 1, 2};
    case DType::kF8E4M3:
      return {"F8_E4M3", 1, 1};
    case DType::kI8:
      return {"I8", 1, 1};
    case DType::kQ4_0:
      return {"Q4_0", 32, 18};
    case DType::kQ4_1:
      return {"Q4_1", 32, 20};
    case DType::kQ5_0:
      return {"Q5_0", 32, 22};
    case DType::kQ5_1:
      return {"Q5_1", 32, 24};
    case DType::kQ8_0:
      return {"Q8_0", 32, 34};
    case DType::kQ4K:
      return {"Q4_K", 256, 144};
    case DType::kQ5K:
      return {"Q5_K", 256, 176};
    case DType::kQ6K:
      return {"Q6_K", 256, 210};
  }
  return {"?", 1, 0};
}

/// Bytes of one row of `cols` elements; cols must be a multiple of the type's block_elements.
constexpr int64_t RowBytes(DType type, int64_t cols) {
  const DTypeTraits traits = TraitsOf(type);
  return cols / traits.block_elements * traits.block_bytes;
}

/// Blocks of 4- to 8-bit codes with scales of their own.
constexpr bool IsBlockQuantised(DType type) { return TraitsOf(type).block_elements > 1; }

/// The arithmetic a server was started with; its KV has a type of its own
/// (Device::DefaultKvDType). Within a mode a request's bits do not depend on its neighbours.
enum class Numerics : uint8_t {
  kExact,   // float32 activations
  kBf16,    // bf16 inputs of every matrix product, float32 sums
  kInt8,    // activations in groups of 32 int8 with a float32 scale where weights are 4 or 8 bit,
            // else as kBf16
  kPhased,  // kBf16 for the tokens of prompts, kInt8 for those that are generated
};
constexpr const char* kNumericsNames[] = {"exact", "bf16", "int8", "phased"};
constexpr const char* NameOf(Numerics numerics) {
  return kNumericsNames[static_cast<int>(numerics)];
}
/// None for another name.
constexpr std::optional<Numerics> NumericsNamed(std::string_view name) {
  for (size_t i = 0; i < std::size(kNumericsNames); ++i) {
    if (name == kNumericsNames[i]) return static_cast<Numerics>(i);
  }
  return std::nullopt;
}

/// Which of its sequence's tokens a row is of. kPhased chooses by it, not by what else is in a
/// step, so that a request's bits depend on the request alone.
enum class Phase : uint8_t { kPrompt, kGeneration };

/// What rows of that phase are multiplied in: never kPhased.
constexpr Numerics NumericsOf(Numerics numerics, Phase phase) {
  if (numerics != Numerics::kPhased) return numerics;
  return phase == Phase::kPrompt ? Numerics::kBf16 : Numerics::kInt8;
}

}  // namespace modu::kernels
