// What a tokenizer file calls a pattern: a string, or a regex (hand-split where the expression is a
// known one).
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/regex.h"
#include "server/text/splitters.h"

namespace modu::text {

class Matcher {
 public:
  static Matcher Literal(std::string text);
  static absl::StatusOr<Matcher> Expression(std::string_view oniguruma_pattern);

  /// All matches from left to right, none overlapping.
  absl::Status FindAll(std::string_view text, std::vector<Span>* matches) const;
  /// Every match becomes `content`.
  absl::Status Replace(std::string_view content, std::string* text) const;

 private:
  std::string literal_;
  Splitter splitter_ = nullptr;
  std::unique_ptr<Regex> regex_;
};

}  // namespace modu::text
