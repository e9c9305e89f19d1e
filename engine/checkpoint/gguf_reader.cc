#include "engine/checkpoint/gguf_reader.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace modu::engine {
namespace {

using kernels::DType;

constexpr uint64_t kMaxKeyBytes = 65535;  // the specification's bound
constexpr uint64_t kMaxTensors = 1'000'000;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint32_t kDefaultAlignment = 32;
constexpr int kMaxDims = 4;  // the specification's bound

/// Bytes of one element in the file; for a string the least it can take (its length).
uint64_t ElementBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    default:
      return 8;
  }
}

std::optional<DType> TensorType(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 2:
      return DType::kQ4_0;
    case 3:
      return DType::kQ4_1;
    case 6:
      return DType::kQ5_0;
    case 7:
      return DType::kQ5_1;
    case 8:
      return DType::kQ8_0;
    case 12:
      return DType::kQ4K;
    case 13:
      return DType::kQ5K;
    case 14:
      return DType::kQ6K;
    case 30:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

/// Names of the types that exist but are not served, so that the message helps.
absl::string_view UnsupportedTypeName(uint32_t ggml_type) {
  switch (ggml_type) {
    case 9:
      return "Q8_1";
    case 10:
      return "Q2_K";
    case 11:
      return "Q3_K";
    case 15:
      return "Q8_K";
    case 16:
      return "IQ2_XXS";
    case 17:
      return "IQ2_XS";
    case 18:
      return "IQ3_XXS";
    case 19:
      return "IQ1_S";
    case 20:
      return "IQ4_NL";
    case 21:
      return "IQ3_S";
    case 22:
      return "IQ2_S";
    case 23:
      return "IQ4_XS";
    case 24:
      return "I8";
    case 25:
      return "I16";
    case 26:
      return "I32";
    case 27:
      return "I64";
    case 28:
      return "F64";
    case 29:
      return "IQ1_M";
    case 34:
      return "TQ1_0";
    case 35:
      return "TQ2_0";
    case 39:
      return "MXFP4";
    default:
      return "";
  }
}

/// Reads the head of the file in order through a window. The first error sticks; after it
/// everything reads as zero.
class Cursor {
 public:
  explicit Cursor(const InputFile& file) : file_(file) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  uint64_t offset() const { return offset_; }
  uint64_t left() const { return file_.size() - offset_; }

  void Fail(const std::string& where, const std::string& what, uint64_t at) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat(file_.name(), ": ", where, " at offset ", at, ": ", what));
  }

  void Bytes(void* out, uint64_t bytes, const std::string& where) {
    if (!Room(bytes, where)) {
      if (status_.ok()) return;
      std::memset(out, 0, static_cast<size_t>(std::min<uint64_t>(bytes, 8)));
      return;
    }
    auto* to = static_cast<char*>(out);
    while (bytes > 0) {
      if (offset_ < window_start_ || offset_ >= window_start_ + window_.size()) {
        if (!Refill()) return;
      }
      const uint64_t at = offset_ - window_start_;
      const uint64_t now = std::min<uint64_t>(bytes, window_.size() - at);
      std::memcpy(to, window_.data() + at, static_cast<size_t>(now));
      to += now;
      offset_ += now;
      bytes -= now;
    }
  }

  template <typename T>
  T Read(const std::string& where) {
    T value{};
    if (!ok()) return value;
    Bytes(&value, sizeof(value), where);
    return ok() ? value : T{};
  }

  std::string String(const std::string& where, uint64_t limit) {
    const uint64_t at = offset_;
    const auto length = Read<uint64_t>(where);
    if (!ok()) return {};
    if (length > left() || length > limit) {
      Fail(where,
           absl::StrCat("a string of ", length, " bytes, where ", std::min(left(), limit),
                        " are possible"),
           at);
      return {};
    }
    std::string text(static_cast<size_t>(length), '\0');
    Bytes(text.data(), length, where);
    return text;
  }

 private:
  bool Room(uint64_t bytes, const std::string& where) {
    if (!ok()) return false;
    if (bytes > left()) {
      Fail(where, absl::StrCat("the file ends at ", file_.size()), offset_);
      return false;
    }
    return true;
  }

  bool Refill() {
    constexpr uint64_t kWindow = 256 * 1024;
    window_start_ = offset_;
    window_.resize(static_cast<size_t>(std::min(kWindow, left())));
    status_ = file_.ReadAt(window_start_, window_.data(), window_.size());
    return status_.ok();
  }

  const InputFile& file_;
  absl::Status status_;
  uint64_t offset_ = 0, window_start_ = 0;
  std::string window_;
};

void ReadArray(Cursor& cursor, const std::string& where, GgufValue* value) {
  const uint64_t at = cursor.offset();
  const auto type = cursor.Read<uint32_t>(where);
  value->count = cursor.Read<uint64_t>(where);
  if (!cursor.ok()) return;
  if (type == static_cast<uint32_t>(GgufType::kArray)) {
    return cursor.Fail(where, "nested arrays are not supported", at);
  }
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return cursor.Fail(where, absl::StrCat("unknown value type ", type), at);
  }
  value->type = static_cast<GgufType>(type);
  if (value->count > cursor.left() / ElementBytes(value->type)) {
    return cursor.Fail(where,
                       absl::StrCat("an array of ", value->count, " elements does not fit in the ",
                                    cursor.left(), " bytes left"),
                       at);
  }
  if (value->type == GgufType::kString) {
    // Grows as strings are read: a count of empty strings costs memory only as fast as the file has
    // bytes for them.
    for (uint64_t i = 0; i < value->count && cursor.ok(); ++i) {
      value->strings.push_back(cursor.String(where, cursor.left()));
    }
    return;
  }
  value->raw.resize(static_cast<size_t>(value->count * ElementBytes(value->type)));
  cursor.Bytes(value->raw.data(), value->raw.size(), where);
}

GgufValue ReadValue(Cursor& cursor, const std::string& where) {
  GgufValue value;
  value.offset = cursor.offset();
  const auto type = cursor.Read<uint32_t>(where);
  if (!cursor.ok()) return value;
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    cursor.Fail(where, absl::StrCat("unknown value type ", type), value.offset);
    return value;
  }
  value.type = static_cast<GgufType>(type);
  if (value.type == GgufType::kArray) {
    value.is_array = true;
    ReadArray(cursor, where, &value);
  } else if (value.type == GgufType::kString) {
    value.strings.push_back(cursor.String(where, cursor.left()));
  } else {
    value.raw.resize(static_cast<size_t>(ElementBytes(value.type)));
    cursor.Bytes(value.raw.data(), value.raw.size(), where);
  }
  if (cursor.ok() && value.type == GgufType::kBool) {
    for (std::byte byte : value.raw) {
      if (byte > std::byte{1}) cursor.Fail(where, "a bool is neither 0 nor 1", value.offset);
    }
  }
  return value;
}

void ReadMetadata(Cursor& cursor, uint64_t count, GgufMetadata* metadata) {
  for (uint64_t i = 0; i < count && cursor.ok(); ++i) {
    const uint64_t at = cursor.offset();
    std::string key = cursor.String(absl::StrCat("metadata key ", i), kMaxKeyBytes);
    if (!cursor.ok()) return;
    if (key.empty()) return cursor.Fail(absl::StrCat("metadata key ", i), "is empty", at);
    const std::string where = absl::StrCat("key ", key);
    GgufValue value = ReadValue(cursor, where);
    if (!cursor.ok()) return;
    if (!metadata->Insert(std::move(key), std::move(value))) {
      return cursor.Fail(where, "occurs twice", at);
    }
  }
}

/// The table entry; offset is still relative to the data section.
GgufTensor ReadTensorInfo(Cursor& cursor, uint64_t index) {
  GgufTensor tensor;
  const uint64_t at = cursor.offset();
  tensor.name = cursor.String(absl::StrCat("name of tensor ", index), kMaxKeyBytes);
  const std::string where = absl::StrCat("tensor ", tensor.name);
  const auto num_dims = cursor.Read<uint32_t>(where);
  if (!cursor.ok()) return tensor;
  if (num_dims < 1 || num_dims > kMaxDims) {
    cursor.Fail(
        where, absl::StrCat("has ", num_dims, " dimensions, 1 to ", kMaxDims, " are possible"), at);
    return tensor;
  }
  int64_t elements = 1;
  for (uint32_t d = 0; d < num_dims; ++d) {
    const auto dim = cursor.Read<uint64_t>(where);
    if (!cursor.ok()) return tensor;
    if (dim == 0 || dim > static_cast<uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(elements, static_cast<int64_t>(dim), &elements)) {
      cursor.Fail(where, absl::StrCat("dimension ", d, " is ", dim, ", zero or too large"), at);
      return tensor;
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
  }
  const auto type = cursor.Read<uint32_t>(where);
  tensor.offset = cursor.Read<uint64_t>(where);
  if (!cursor.ok()) return tensor;
  const std::optional<DType> dtype = TensorType(type);
  if (!dtype) {
    const absl::string_view name = UnsupportedTypeName(type);
    cursor.Fail(where,
                name.empty() ? absl::StrCat("unknown tensor type ", type)
                             : absl::StrCat("type ", name, " is not supported"),
                at);
    return tensor;
  }
  tensor.dtype = *dtype;
  const kernels::DTypeTraits traits = kernels::TraitsOf(*dtype);
  if (tensor.shape.back() % traits.block_elements != 0) {
    cursor.Fail(where,
                absl::StrCat("rows of ", tensor.shape.back(), " are not whole blocks of ",
                             traits.block_elements, " (", traits.name, ")"),
                at);
  } else if (__builtin_mul_overflow(elements / traits.block_elements, int64_t{traits.block_bytes},
                                    &tensor.bytes)) {
    cursor.Fail(where, "is too large", at);
  }
  return tensor;
}

/// Turns relative offsets into absolute ones; every tensor must lie in the file, aligned, and apart
/// from the others.
absl::Status PlaceTensors(const InputFile& file, uint64_t data_start, uint64_t alignment,
                          std::vector<GgufTensor>* tensors) {
  const auto error = [&](const GgufTensor& tensor, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": tensor ", tensor.name,
                                                   " at offset ", tensor.offset,
                                                   " of the data: ", what));
  };
  if (tensors->empty()) return absl::OkStatus();  // a vocabulary alone need not be padded
  if (data_start > file.size()) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ends at ", file.size(),
                                                   ", before the tensor data at ", data_start));
  }
  const uint64_t data_bytes = file.size() - data_start;
  std::set<absl::string_view> names;
  for (const GgufTensor& tensor : *tensors) {
    if (!names.insert(tensor.name).second) return error(tensor, "the name occurs twice");
    if (tensor.offset % alignment != 0) {
      return error(tensor, absl::StrCat("is not a multiple of the alignment ", alignment));
    }
    if (tensor.offset > data_bytes ||
        static_cast<uint64_t>(tensor.bytes) > data_bytes - tensor.offset) {
      return error(tensor,
                   absl::StrCat("its ", tensor.bytes, " bytes end past the file's ", file.size()));
    }
  }
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : *tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset - order[i - 1]->offset < static_cast<uint64_t>(order[i - 1]->bytes)) {
      return error(*order[i], absl::StrCat("overlaps ", order[i - 1]->name));
    }
  }
  for (GgufTensor& tensor : *tensors) tensor.offset += data_start;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufContents> ReadGguf(const InputFile& file) {
  Cursor cursor(file);
  char magic[4] = {};
  cursor.Bytes(magic, sizeof(magic), "magic");
  const auto version = cursor.Read<uint32_t>("version");
  if (!cursor.ok()) return cursor.status();
  if (std::memcmp(magic, "GGUF", 4) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": not a GGUF file (magic at offset 0)"));
  }
  if ((version & 0xffff) == 0 && version != 0) {
    return absl::UnimplementedError(
        absl::StrCat(file.name(), ": big-endian GGUF is not supported (version at offset 4)"));
  }
  if (version < 2 || version > 3) {
    return absl::UnimplementedError(absl::StrCat(file.name(), ": GGUF version ", version,
                                                 " at offset 4; 2 and 3 are supported"));
  }
  const auto num_tensors = cursor.Read<uint64_t>("tensor count");
  const auto num_values = cursor.Read<uint64_t>("metadata count");
  // The least an entry takes: key length 8 + type 4 + 1 byte; name length 8 + dims 4 + 8 + type 4 +
  // offset 8.
  if (cursor.ok() && num_values > cursor.left() / 13) {
    cursor.Fail("metadata count", absl::StrCat(num_values, " entries do not fit in the file"), 16);
  }
  if (cursor.ok() && (num_tensors > cursor.left() / 32 || num_tensors > kMaxTensors)) {
    cursor.Fail("tensor count", absl::StrCat(num_tensors, " tensors do not fit in the file"), 8);
  }
  if (!cursor.ok()) return cursor.status();

  GgufContents contents{version, GgufMetadata(file.name()), {}};
  ReadMetadata(cursor, num_values, &contents.metadata);
  if (!cursor.ok()) return cursor.status();
  uint64_t alignment = kDefaultAlignment;
  if (const GgufValue* value = contents.metadata.Find("general.alignment")) {
    auto given = contents.metadata.Int("general.alignment", 1, static_cast<int64_t>(kMaxAlignment));
    if (!given.ok()) return given.status();
    alignment = static_cast<uint64_t>(**given);
    if (value->type != GgufType::kUint32 || (alignment & (alignment - 1)) != 0) {
      return contents.metadata.Error(
          "general.alignment",
          absl::StrCat("must be a uint32 and a power of two, not ", alignment));
    }
  }
  for (uint64_t i = 0; i < num_tensors && cursor.ok(); ++i) {
    contents.tensors.push_back(ReadTensorInfo(cursor, i));
  }
  if (!cursor.ok()) return cursor.status();
  const uint64_t data_start = (cursor.offset() + alignment - 1) / alignment * alignment;
  absl::Status placed = PlaceTensors(file, data_start, alignment, &contents.tensors);
  if (!placed.ok()) return placed;
  return contents;
}

}  // namespace modu::engine
