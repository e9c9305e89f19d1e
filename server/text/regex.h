// Regular expressions of tokenizer files: Oniguruma's dialect (what Hugging Face's tokenizers use),
// run by PCRE2 with UTF, UCP and match limits. Immutable after Compile, safe from any thread; no
// recursion on the machine stack.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/unicode.h"

namespace modu::text {

/// The same expression in PCRE2's words: \s, \w, \h, class intersections and nested classes differ.
/// kInvalidArgument: what cannot be said.
absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern);

class Regex {
 public:
  static absl::StatusOr<std::unique_ptr<Regex>> Compile(std::string_view oniguruma_pattern);
  ~Regex();

  /// Every match from left to right, as Oniguruma's find_iter gives them (none empty right behind
  /// another). `text` is well-formed UTF-8. kInvalidArgument: the match limit or the time limit was
  /// hit.
  absl::Status FindAll(std::string_view text, std::vector<Span>* matches) const;

 private:
  struct Impl;
  explicit Regex(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::text
