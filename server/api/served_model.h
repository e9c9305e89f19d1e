// What the doors must know of the model to validate a request and list it. Built once at start,
// then constant.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/checkpoint/model_config.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace modu::api {

struct ServedModel {
  std::vector<std::string> names;  // the first is the answer's "model"
  int64_t created_unix_s = 0;
  int32_t max_model_len = 0;  // prompt and output together
  int32_t vocab_size = 0;
  std::vector<int32_t> eos_ids;
  int32_t bos_id = -1;
  engine::GenerationDefaults defaults;
  std::shared_ptr<const text::Tokenizer> tokenizer;         // null: token-id prompts only
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: no chat
  std::string bos_token, eos_token;  // as the model's files spell them for the template
};

}  // namespace modu::api
