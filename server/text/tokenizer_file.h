// Reads a tokenizer.json: vocabulary and merges straight into vectors (they are most of the file),
// the rest as JSON.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace modu::text {

struct TokenizerFile {
  std::vector<std::pair<std::string, int64_t>> vocab;       // model.vocab, an object
  std::vector<std::pair<std::string, std::string>> merges;  // model.merges, of strings or of lists
  nlohmann::json rest;                                      // everything else
};

/// kInvalidArgument: not JSON, nested deeper than 64, a merge that is not two tokens, an id that is
/// no integer.
absl::StatusOr<TokenizerFile> ReadTokenizerFile(std::string_view text);

}  // namespace modu::text
