#include "engine/checkpoint/safetensors_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_text.h"

namespace modu::engine {
namespace {

using kernels::DType;
using Json = nlohmann::json;

/// Bytes of one element; 0: unknown.
uint64_t ElementBytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "F8_E4M3" || dtype == "F8_E5M2" || dtype == "F8_E8M0" || dtype == "I8" ||
      dtype == "U8" || dtype == "BOOL")
    return 1;
  return 0;
}

std::optional<DType> ServedType(const std::string& dtype) {
  if (dtype == "F32") return DType::kF32;
  if (dtype == "F16") return DType::kF16;
  if (dtype == "BF16") return DType::kBF16;
  if (dtype == "F8_E4M3") return DType::kF8E4M3;
  return std::nullopt;
}

/// Builds the entries event by event: no document in memory, and a name that occurs twice is seen.
class HeaderHandler final : public nlohmann::json_sax<Json> {
 public:
  std::vector<SafetensorsEntry> entries;
  std::string error;

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override {
    return in_metadata_ || Fail("has a negative number");
  }
  bool number_float(number_float_t, const string_t&) override {
    return in_metadata_ || Fail("has a number that is no integer");
  }
  bool binary(binary_t&) override { return Other(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (in_metadata_) return true;
    if (list_ == List::kShape) {
      if (value > static_cast<uint64_t>(INT64_MAX))
        return Fail("has a dimension that is too large");
      if (entries.back().shape.size() >= 8) return Fail("has more than 8 dimensions");
      entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (list_ == List::kOffsets && num_offsets_ < 2) {
      offsets_[num_offsets_++] = value;
      return true;
    }
    return Other();
  }

  bool string(string_t& value) override {
    if (in_metadata_) return true;
    if (depth_ != 2 || key_ != "dtype") return Other();
    entries.back().dtype_name = value.substr(0, 32);
    return true;
  }

  bool start_object(std::size_t) override {
    if (++depth_ > 2) return Fail("nests too deeply");
    if (depth_ == 1) return true;
    if (list_ != List::kNone) return Other();
    if (in_metadata_) return true;
    seen_shape_ = false;
    num_offsets_ = 0;
    return true;
  }

  bool key(string_t& value) override {
    if (depth_ == 1) {
      in_metadata_ = value == "__metadata__";
      if (in_metadata_) return true;
      if (!names_.insert(value).second)
        return Fail(absl::StrCat("tensor ", value.substr(0, 256), " occurs twice"));
      if (entries.size() >= kMaxSafetensorsTensors)
        return Fail(absl::StrCat("has more than ", kMaxSafetensorsTensors, " tensors"));
      entries.emplace_back().name = value;
      return true;
    }
    key_ = value;
    return true;
  }

  bool end_object() override {
    if (depth_-- == 1 || in_metadata_) {
      in_metadata_ = in_metadata_ && depth_ > 0;
      return true;
    }
    SafetensorsEntry& entry = entries.back();
    if (entry.dtype_name.empty() || !seen_shape_ || num_offsets_ != 2)
      return Fail("lacks dtype, shape or data_offsets");
    if (offsets_[1] < offsets_[0])
      return Fail(absl::StrCat("has reversed data_offsets [", offsets_[0], ", ", offsets_[1], "]"));
    entry.offset = offsets_[0];
    entry.bytes = offsets_[1] - offsets_[0];
    return true;
  }

  bool start_array(std::size_t) override {
    if (in_metadata_) return Fail("metadata holds a list");
    if (depth_ != 2 || list_ != List::kNone) return Other();
    if (key_ == "shape" && !seen_shape_) {
      list_ = List::kShape;
      seen_shape_ = true;
    } else if (key_ == "data_offsets" && num_offsets_ == 0) {
      list_ = List::kOffsets;
    } else {
      return Other();
    }
    return true;
  }
  bool end_array() override {
    list_ = List::kNone;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    if (error.empty()) error = absl::StrCat("is not valid JSON at offset ", 8 + position);
    return false;
  }

 private:
  enum class List { kNone, kShape, kOffsets };

  bool Fail(const std::string& what) {
    const bool in_tensor = depth_ >= 2 && !entries.empty() && !in_metadata_;
    if (error.empty())
      error =
          in_tensor ? absl::StrCat("tensor ", entries.back().name.substr(0, 256), " ", what) : what;
    return false;
  }
  bool Other() { return in_metadata_ || Fail("has a value where the format has none"); }

  int depth_ = 0, num_offsets_ = 0;
  uint64_t offsets_[2] = {};
  bool in_metadata_ = false, seen_shape_ = false;
  List list_ = List::kNone;
  std::string key_;
  std::set<std::string> names_;
};

/// Shape times element size must be what the offsets say; all tensors together must be the data,
/// end to end.
absl::Status CheckLayout(const InputFile& file, uint64_t data_start,
                         std::vector<SafetensorsEntry>* entries) {
  const auto error = [&](const SafetensorsEntry& entry, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": tensor ", entry.name, " at offset ", entry.offset, " of the data: ", what));
  };
  std::sort(entries->begin(), entries->end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  uint64_t expected = 0;
  for (SafetensorsEntry& entry : *entries) {
    const uint64_t element = ElementBytes(entry.dtype_name);
    if (element == 0) return error(entry, absl::StrCat("unknown dtype ", entry.dtype_name));
    uint64_t bytes = element;
    for (int64_t dim : entry.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes))
        return error(entry, "the shape is too large");
    }
    if (bytes != entry.bytes) {
      return error(entry, absl::StrCat("the shape needs ", bytes, " bytes, data_offsets give ",
                                       entry.bytes));
    }
    if (entry.offset != expected) {
      return error(entry, entry.offset < expected ? "overlaps another tensor" : "follows a hole");
    }
    if (__builtin_add_overflow(expected, bytes, &expected))
      return error(entry, "the offsets are too large");
    if (const auto served = ServedType(entry.dtype_name)) {
      entry.dtype = *served;
      entry.served = true;
    }
  }
  const uint64_t data_bytes = file.size() - data_start;
  if (expected != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": the header describes ", expected,
                                                   " bytes of data at offset ", data_start,
                                                   ", the file has ", data_bytes));
  }
  for (SafetensorsEntry& entry : *entries) entry.offset += data_start;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const InputFile& file) {
  uint64_t length = 0;
  if (absl::Status status = file.ReadAt(0, &length, sizeof(length)); !status.ok()) return status;
  if (length < 2 || length > kMaxSafetensorsHeaderBytes || length > file.size() - sizeof(length)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": header length at offset 0 is ", length, ", possible are 2 to ",
                     std::min(kMaxSafetensorsHeaderBytes, file.size() - sizeof(length))));
  }
  HeaderHandler handler;
  {
    std::string text(static_cast<size_t>(length), '\0');
    if (absl::Status status = file.ReadAt(sizeof(length), text.data(), text.size()); !status.ok())
      return status;
    if (text[0] != '{') {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": the header at offset 8 is no JSON object"));
    }
    if (const size_t nul = FindNul(text); nul != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.name(), ": the header is not valid JSON at offset ", sizeof(length) + nul));
    }
    if (!Json::sax_parse(text, &handler)) {
      return absl::InvalidArgumentError(absl::StrCat(file.name(), ": the header ", handler.error));
    }
  }
  if (absl::Status status = CheckLayout(file, sizeof(length) + length, &handler.entries);
      !status.ok())
    return status;
  return std::move(handler.entries);
}

}  // namespace modu::engine
