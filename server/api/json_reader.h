// Strict JSON: one object, no deeper than the limit, counted keys and items, no duplicate keys,
// valid UTF-8, nothing after it. Lists with a cap of their own (messages, stop, ...) are refused
// where they pass it. Built on nlohmann's event parser, which is iterative: depth costs no stack.
// Pure function.
#pragma once
#include <string_view>

#include "nlohmann/json.hpp"
#include "server/api/limits.h"
#include "server/api/request_fields.h"

namespace modu::api {

using Json = nlohmann::ordered_json;

/// Key order is kept. Integers past 64 bits arrive as floats, so an integer field refuses them by
/// type. Errors: 400 with the byte offset, or naming the top-level field in which a bound was
/// passed.
Parsed<Json> ReadJsonObject(std::string_view body, const Limits& limits);

}  // namespace modu::api
