// Added tokens: whole strings that become their id before the model sees the text, with Hugging
// Face's rules for stripping, single words and normalisation. Immutable after construction, safe
// from any thread.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/unicode.h"

namespace modu::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;      // a control token: only found where control tokens are asked for
  bool single_word = false;  // not inside a word
  bool lstrip = false, rstrip = false;  // takes the white space before, behind
  bool normalized = false;              // looked for in the normalised text
};

/// A part of a text: an added token's id, or -1 and the text between.
struct Section {
  int32_t id = -1;
  Span span;
};

/// A set of tokens that are looked for together, leftmost first and of those the longest.
class AddedTokenSet {
 public:
  AddedTokenSet() = default;
  /// `patterns` are what is looked for, one for each token.
  AddedTokenSet(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  bool empty() const { return tokens_.empty(); }
  /// Time linear in the text times the longest token.
  std::vector<Section> Split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, int32_t>> children;  // sorted by byte
    int32_t token = -1;                                 // index into tokens_
  };
  int32_t Child(int32_t node, uint8_t byte) const;
  /// The longest token at `pos`, or -1.
  int32_t MatchAt(std::string_view text, size_t pos, size_t* end) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  bool starts_[256] = {};
};

}  // namespace modu::text
