// The GGUF container, versions 2 and 3, little-endian: metadata and the table of tensors, not what
// they mean. Source: the GGUF specification (ggml/docs/gguf.md). Every count is checked against the
// bytes that are left before anything is allocated for it; errors name file, key and offset.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/input_file.h"
#include "kernels/dtype.h"

namespace modu::engine {

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

struct GgufValue {
  GgufType type = GgufType::kUint8;  // of the value, or of an array's elements
  bool is_array = false;
  uint64_t count = 1;                // elements
  uint64_t offset = 0;               // in the file, for messages
  std::vector<std::byte> raw;        // scalars and arrays of numbers and bools, as in the file
  std::vector<std::string> strings;  // strings and arrays of strings
};

struct GgufTensor {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;  // outermost first (the file has the innermost first)
  uint64_t offset = 0;         // from the start of the file
  int64_t bytes = 0;
};

/// Metadata by key. Getters give nullopt where the key is absent and an error where its type or
/// range is wrong.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string file_name) : file_name_(std::move(file_name)) {}

  bool Has(const std::string& key) const { return values_.count(key) != 0; }
  const GgufValue* Find(const std::string& key) const;
  /// Any integer type, in [low, high].
  absl::StatusOr<std::optional<int64_t>> Int(const std::string& key, int64_t low,
                                             int64_t high) const;
  /// float32 or float64, finite.
  absl::StatusOr<std::optional<double>> Float(const std::string& key) const;
  absl::StatusOr<std::optional<bool>> Bool(const std::string& key) const;
  absl::StatusOr<std::optional<std::string>> String(const std::string& key) const;
  absl::StatusOr<std::vector<std::string>> Strings(const std::string& key) const;  // absent: empty
  absl::StatusOr<std::vector<float>> Floats(const std::string& key) const;
  absl::StatusOr<std::vector<int32_t>> Ints(const std::string& key) const;

  absl::Status Error(const std::string& key, const std::string& what) const;
  bool Insert(std::string key, GgufValue value) {
    return values_.emplace(std::move(key), std::move(value)).second;
  }
  size_t size() const { return values_.size(); }

 private:
  std::string file_name_;
  std::map<std::string, GgufValue> values_;
};

struct GgufContents {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in the file's order
};

absl::StatusOr<GgufContents> ReadGguf(const InputFile& file);

}  // namespace modu::engine
