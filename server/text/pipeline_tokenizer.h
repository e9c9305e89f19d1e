// The one Tokenizer: added tokens, normalizer, pre-tokenizer, BPE model, special tokens around,
// decoder. The loaders (tokenizer_json.cc, gguf_tokenizer.cc) fill a Pipeline; from then on it is
// immutable and safe from any thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "server/text/added_tokens.h"
#include "server/text/bpe_model.h"
#include "server/text/normalizer.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/token_decoder.h"
#include "server/text/tokenizer.h"

namespace modu::text {

/// What a loader has read. Spellings are as the file has them.
struct Pipeline {
  std::vector<std::string> spellings;  // by id; "": a gap
  std::vector<Merge> merges;
  BpeOptions model;  // model.bytes: the spellings are in GPT-2's byte alphabet
  std::vector<AddedToken> added;
  std::vector<int32_t>
      control;  // never from text, skipped in answers; beside the special added tokens
  std::vector<int32_t> outside_model;      // added tokens that the model's own vocabulary lacks
  std::unique_ptr<Normalizer> normalizer;  // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null: the whole text is one piece
  bool byte_alphabet_text = false;      // pieces reach the model in the byte alphabet, not in bytes
  std::vector<int32_t> prefix, suffix;  // what add_special puts around
  TokenDecoder decoder;
  int32_t bos_id = -1, eos_id = -1;
  std::string kind;
};

/// kInvalidArgument: an added token too long.
absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(Pipeline pipeline);

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const engine::TokenizerFiles& files);
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const engine::TokenizerFiles& files);

}  // namespace modu::text
