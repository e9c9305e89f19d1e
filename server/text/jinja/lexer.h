// Template source to tokens, with Jinja's white space rules under trim_blocks and lstrip_blocks,
// one trailing newline dropped and line ends made \n, as transformers sets its environment. Linear
// in the source. Any thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace modu::text::jinja {

enum class TokenType : uint8_t {
  kData,  // text between tags, ready to be written
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  // operator's spelling, name, string's value, digits
  int line = 1;
};

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace modu::text::jinja
