// The decoder chain of a tokenizer: spellings into text, as a whole (as the reference
// implementation does) or token by token (what streams). Immutable, safe from any thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/matcher.h"

namespace modu::text {

struct DecodeStep {
  enum class Kind { kByteLevel, kByteFallback, kFuse, kReplace, kStrip, kMetaspace, kSuffix };
  Kind kind = Kind::kFuse;
  Matcher pattern;      // kReplace
  std::string content;  // kReplace: in its place; kStrip: the character; kMetaspace, kSuffix: what
                        // stands for a space
  size_t start = 0, stop = 0;  // kStrip: how many at most, at each end
  bool prefixed = true;        // kMetaspace: the first token's are dropped
};

class TokenDecoder {
 public:
  TokenDecoder() = default;
  /// Without steps the tokens are joined with spaces.
  explicit TokenDecoder(std::vector<DecodeStep> steps) : steps_(std::move(steps)) {}

  /// The text of a whole answer; ill-formed bytes become U+FFFD.
  std::string Join(std::vector<std::string> spellings) const;
  /// The raw bytes that one token adds to running text.
  std::string Bytes(std::string_view spelling) const;
  bool HasByteLevel() const;

 private:
  void Apply(const DecodeStep& step, std::vector<std::string>* tokens) const;

  std::vector<DecodeStep> steps_;
};

}  // namespace modu::text
