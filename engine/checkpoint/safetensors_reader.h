// The header of one .safetensors file. Source: the safetensors format (8 bytes of header length,
// JSON, then data). Everything is checked before it is used: the length, each shape against its
// offsets, no overlap, no hole.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/input_file.h"
#include "kernels/dtype.h"

namespace modu::engine {

constexpr uint64_t kMaxSafetensorsHeaderBytes = uint64_t{100}
                                                << 20;  // the reference implementation's limit
constexpr size_t kMaxSafetensorsTensors = 65536;        // of one file

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;  // as in the file
  bool served = false;     // dtype is one of ours; otherwise the tensor may be there but not used
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

/// In the order of their offsets.
absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const InputFile& file);

}  // namespace modu::engine
