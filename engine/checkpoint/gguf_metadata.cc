#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_reader.h"

namespace modu::engine {
namespace {

template <typename T>
T Element(const GgufValue& value, uint64_t index) {
  T out;
  std::memcpy(&out, value.raw.data() + index * sizeof(T), sizeof(T));
  return out;
}

/// False where the type is no integer or the value does not fit int64.
bool IntElement(const GgufValue& value, uint64_t index, int64_t* out) {
  switch (value.type) {
    case GgufType::kUint8:
      *out = Element<uint8_t>(value, index);
      return true;
    case GgufType::kInt8:
      *out = Element<int8_t>(value, index);
      return true;
    case GgufType::kUint16:
      *out = Element<uint16_t>(value, index);
      return true;
    case GgufType::kInt16:
      *out = Element<int16_t>(value, index);
      return true;
    case GgufType::kUint32:
      *out = Element<uint32_t>(value, index);
      return true;
    case GgufType::kInt32:
      *out = Element<int32_t>(value, index);
      return true;
    case GgufType::kInt64:
      *out = Element<int64_t>(value, index);
      return true;
    case GgufType::kUint64: {
      const auto wide = Element<uint64_t>(value, index);
      *out = static_cast<int64_t>(wide);
      return wide <= static_cast<uint64_t>(INT64_MAX);
    }
    default:
      return false;
  }
}

bool FloatElement(const GgufValue& value, uint64_t index, double* out) {
  if (value.type == GgufType::kFloat32) {
    *out = Element<float>(value, index);
  } else if (value.type == GgufType::kFloat64) {
    *out = Element<double>(value, index);
  } else {
    return false;
  }
  return true;
}

}  // namespace

const GgufValue* GgufMetadata::Find(const std::string& key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

absl::Status GgufMetadata::Error(const std::string& key, const std::string& what) const {
  const GgufValue* value = Find(key);
  return absl::InvalidArgumentError(
      value == nullptr
          ? absl::StrCat(file_name_, ": key ", key, ": ", what)
          : absl::StrCat(file_name_, ": key ", key, " at offset ", value->offset, ": ", what));
}

absl::StatusOr<std::optional<int64_t>> GgufMetadata::Int(const std::string& key, int64_t low,
                                                         int64_t high) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  int64_t number = 0;
  if (value->is_array || !IntElement(*value, 0, &number)) return Error(key, "must be an integer");
  if (number < low || number > high) {
    return Error(key, absl::StrCat("is ", number, ", possible are ", low, " to ", high));
  }
  return number;
}

absl::StatusOr<std::optional<double>> GgufMetadata::Float(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  double number = 0;
  if (value->is_array || !FloatElement(*value, 0, &number)) return Error(key, "must be a float");
  if (!std::isfinite(number)) return Error(key, "is not finite");
  return number;
}

absl::StatusOr<std::optional<bool>> GgufMetadata::Bool(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kBool) return Error(key, "must be a bool");
  return value->raw[0] == std::byte{1};
}

absl::StatusOr<std::optional<std::string>> GgufMetadata::String(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kString) return Error(key, "must be a string");
  return value->strings[0];
}

absl::StatusOr<std::vector<std::string>> GgufMetadata::Strings(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::vector<std::string>{};
  if (!value->is_array || value->type != GgufType::kString)
    return Error(key, "must be an array of strings");
  return value->strings;
}

absl::StatusOr<std::vector<float>> GgufMetadata::Floats(const std::string& key) const {
  const GgufValue* value = Find(key);
  std::vector<float> out;
  if (value == nullptr) return out;
  if (!value->is_array ||
      (value->type != GgufType::kFloat32 && value->type != GgufType::kFloat64)) {
    return Error(key, "must be an array of floats");
  }
  out.reserve(static_cast<size_t>(value->count));
  for (uint64_t i = 0; i < value->count; ++i) {
    double number = 0;
    FloatElement(*value, i, &number);
    out.push_back(static_cast<float>(number));
  }
  return out;
}

absl::StatusOr<std::vector<int32_t>> GgufMetadata::Ints(const std::string& key) const {
  const GgufValue* value = Find(key);
  std::vector<int32_t> out;
  if (value == nullptr) return out;
  if (!value->is_array || value->raw.empty() != (value->count == 0)) {
    return Error(key, "must be an array of integers");
  }
  out.reserve(static_cast<size_t>(value->count));
  for (uint64_t i = 0; i < value->count; ++i) {
    int64_t number = 0;
    if (!IntElement(*value, i, &number) || number < INT32_MIN || number > INT32_MAX) {
      return Error(key, absl::StrCat("element ", i, " is no 32-bit integer"));
    }
    out.push_back(static_cast<int32_t>(number));
  }
  return out;
}

}  // namespace modu::engine
