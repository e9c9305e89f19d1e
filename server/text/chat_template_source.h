// Which chat template a model's files name, and how they spell the tokens that templates ask for.
#pragma once
#include <string>

#include "engine/checkpoint/checkpoint.h"

namespace modu::text {

struct ChatTemplateSource {
  std::string source;                // "": the files have none
  std::string bos_token, eos_token;  // "": none
};

/// chat_template.jinja (or GGUF's key) first, then tokenizer_config.json's chat_template, a string
/// or a list whose "default" counts. Tokens: tokenizer_config.json's, strings or AddedToken
/// objects, then special_tokens_map.json's, then the vocabulary's (GGUF). Files that are not JSON
/// give nothing here: engine/checkpoint, which reads them, names them.
ChatTemplateSource FindChatTemplate(const engine::TokenizerFiles& files);

}  // namespace modu::text
