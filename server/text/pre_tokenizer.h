// Pre-tokenizers of tokenizer.json: normalised text into the pieces within which BPE merges.
// Immutable, any thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/text/matcher.h"

namespace modu::text {

/// A text and its pieces, in order; what lies between them is dropped. Pre-tokenizers may rewrite
/// both.
struct PreTokenized {
  std::string text;
  std::vector<Span> pieces;
  bool at_start = true;  // the first piece is the beginning of the whole text
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
enum class PrependScheme { kFirst, kNever, kAlways };

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual absl::Status Apply(PreTokenized* state) const = 0;
};

std::unique_ptr<PreTokenizer> MakeSplit(Matcher pattern, SplitBehavior behavior, bool invert);
/// Characters for which `test` holds are the matches, one by one.
std::unique_ptr<PreTokenizer> MakeCharSplit(bool (*test)(uint32_t), SplitBehavior behavior);
std::unique_ptr<PreTokenizer> MakeDigits(bool individual);
std::unique_ptr<PreTokenizer> MakePunctuation(SplitBehavior behavior);
std::unique_ptr<PreTokenizer> MakeWhitespace();
std::unique_ptr<PreTokenizer> MakeWhitespaceSplit();
std::unique_ptr<PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme,
                                            bool split);
/// Bytes stay bytes unless `map_bytes`: the model knows its vocabulary in bytes.
std::unique_ptr<PreTokenizer> MakeByteLevel(bool add_prefix_space, bool use_regex, bool map_bytes);
std::unique_ptr<PreTokenizer> MakePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> parts);

}  // namespace modu::text
