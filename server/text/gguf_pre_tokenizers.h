// The pre-tokenizers behind GGUF's tokenizer.ggml.pre names: the expressions of the models' own
// tokenizer.json files, applied in turn, each cutting the pieces of the one before.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "server/text/unicode_normal.h"

namespace modu::text {

struct GgufPreTokenizer {
  std::vector<std::string_view> expressions;  // Oniguruma's dialect
  std::optional<NormalForm> normal_form;      // what the model's own tokenizer applies first
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
};

/// nullptr: a name we do not know. "" is "default".
const GgufPreTokenizer* FindGgufPreTokenizer(std::string_view name);

}  // namespace modu::text
