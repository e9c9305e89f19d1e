// Values to and from JSON. Writing follows Python's json.dumps, as transformers' tojson calls it.
#pragma once
#include <optional>
#include <string>

#include "nlohmann/json_fwd.hpp"
#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level's text; absent: one line
  std::string item_separator = ", ";  // json.dumps uses "," where there is an indent
  std::string key_separator = ": ";
};

std::string ToJson(Runtime* runtime, const Value& value, const JsonStyle& style);
/// A request's value. Nesting past the runtime's depth fails.
Value FromJson(Runtime* runtime, const nlohmann::ordered_json& json, int depth = 0);

}  // namespace modu::text::jinja
