// Tokens to a Template, by recursive descent with a depth budget; chains of operators and postfixes
// are loops.
#pragma once
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/text/jinja/ast.h"

namespace modu::text::jinja {

/// kInvalidArgument: syntax, with the line and what was expected; nesting deeper than max_depth.
absl::StatusOr<std::unique_ptr<Template>> ParseTemplate(std::string_view source, int max_depth);

}  // namespace modu::text::jinja
