// 64-byte aligned memory filled with NaN.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace modu::tests {

class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes) : storage_(bytes + 64), bytes_(bytes) {
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(data() + i, &nan, 4);
    }
  }
  std::byte* data() {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    return storage_.data() + ((address + 63) / 64 * 64 - address);
  }
  float* floats() { return reinterpret_cast<float*>(data()); }
  bool Same(AlignedBytes& other) { return std::memcmp(data(), other.data(), bytes_) == 0; }

  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;

 private:
  std::vector<std::byte> storage_;
  size_t bytes_;
};

}  // namespace modu::tests
