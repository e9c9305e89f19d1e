// Normalizers of tokenizer.json: the text is rewritten before anything is split. Immutable, safe
// from any thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/text/matcher.h"
#include "server/text/unicode_normal.h"

namespace modu::text {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// `text` is well-formed UTF-8 and stays so. `at_start`: false behind bytes that are no text,
  /// where nothing is prepended.
  virtual absl::Status Apply(bool at_start, std::string* text) const = 0;
};

std::unique_ptr<Normalizer> MakeUnicodeForm(NormalForm form);
std::unique_ptr<Normalizer> MakeLowercase();
std::unique_ptr<Normalizer> MakePrepend(std::string prefix);
std::unique_ptr<Normalizer> MakeReplace(Matcher pattern, std::string content);
std::unique_ptr<Normalizer> MakeStrip(bool left, bool right);
std::unique_ptr<Normalizer> MakeStripAccents();
std::unique_ptr<Normalizer> MakeNmt();
std::unique_ptr<Normalizer> MakeByteLevelNormalizer();
std::unique_ptr<Normalizer> MakeNormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts);

}  // namespace modu::text
