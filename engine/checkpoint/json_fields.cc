#include "engine/checkpoint/json_fields.h"

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_text.h"

namespace modu::engine {
namespace {
constexpr int kMaxDepth = 64;
}

bool JsonNestsWithin(const std::string& text, int limit) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit) return false;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return true;
}

absl::StatusOr<Json> ParseJsonObject(const std::string& text, const std::string& file_name) {
  if (!JsonNestsWithin(text, kMaxDepth)) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": nests deeper than ", kMaxDepth));
  }
  Json json = ParseJsonText(text);
  if (json.is_discarded())
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": is not valid JSON"));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": is no JSON object"));
  return json;
}

const Json* JsonFields::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::Fail(const std::string& key, const std::string& what) {
  if (status_.ok())
    status_ = absl::InvalidArgumentError(absl::StrCat(where_, ": ", key, ": ", what));
}

std::optional<int64_t> JsonFields::Int(const char* key, int64_t low, int64_t high) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    Fail(key, "must be an integer");
    return std::nullopt;
  }
  const bool too_large =
      value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = too_large ? INT64_MAX : value->get<int64_t>();
  if (too_large || number < low || number > high) {
    Fail(key, absl::StrCat("is ", number, ", possible are ", low, " to ", high));
    return std::nullopt;
  }
  return number;
}

std::optional<double> JsonFields::Float(const char* key) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    Fail(key, "must be a finite number");
    return std::nullopt;
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::Bool(const char* key) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    Fail(key, "must be true or false");
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<std::string> JsonFields::String(const char* key) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    Fail(key, "must be a string");
    return std::nullopt;
  }
  return value->get<std::string>();
}

}  // namespace modu::engine
