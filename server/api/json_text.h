// JSON scalars and lists appended to a string, without a document in between. Pure functions.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modu::api {

/// Appends a quoted JSON string; invalid UTF-8 becomes U+FFFD, one per maximal ill-formed part
/// (Unicode 3.9, D93b).
void AppendJsonString(std::string_view text, std::string* out);
void AppendNumber(int64_t value, std::string* out);
/// [1,2,3]
void AppendIds(const std::vector<int32_t>& ids, std::string* out);

}  // namespace modu::api
