// What nlohmann's parser leaves to its caller: it takes a NUL byte for the end of the text and does
// not look at what follows. JSON has none, not even within a string. For every reader of JSON that
// is a whole file or stream. Pure functions.
#pragma once
#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace modu::engine {

/// Where the first NUL byte stands; npos: the parser will see all of the text.
constexpr size_t FindNul(std::string_view text) { return text.find('\0'); }

/// All of the text as one value; discarded where it is not JSON.
nlohmann::json ParseJsonText(const std::string& text);

}  // namespace modu::engine
