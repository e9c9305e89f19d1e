// The tokenizer's files of a model folder, verbatim, and the few facts the engine itself needs from
// them.
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace modu::engine {

constexpr uint64_t kMaxTokenizerJsonBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxSmallJsonBytes = uint64_t{16} << 20;  // config files and templates

/// Absent files stay empty; a folder without any of them is fine. chat_template:
/// chat_template.jinja, else tokenizer_config.json's (a string, or the one named "default" of a
/// list), else chat_template.json's.
absl::StatusOr<TokenizerFiles> ReadFolderTokenizer(const std::string& folder);

/// Highest id + 1 over model.vocab and added_tokens of a tokenizer.json; 0 for an empty text.
absl::StatusOr<int32_t> CountTokenizerIds(const std::string& tokenizer_json);

}  // namespace modu::engine
