// One validated request, whichever door it came through. Everything in it is in range; nothing in
// it has been rendered or tokenized. server/generation takes only this type.
#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "engine/request/sampling_params.h"
#include "nlohmann/json.hpp"

namespace modu::api {

/// Messages (and whatever else goes to the template), already checked; content parts of type text
/// are joined as given.
struct ChatPrompt {
  nlohmann::ordered_json messages;
  nlohmann::ordered_json template_kwargs = nlohmann::ordered_json::object();
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  bool add_special_tokens = false;
};
struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};
struct TokenPrompt {
  std::vector<int32_t> token_ids;
};
using Prompt = std::variant<ChatPrompt, TextPrompt, TokenPrompt>;

struct GenerationRequest {
  std::string id;               // "chatcmpl-...", made by the server
  std::string request_id;       // X-Request-Id, client's or ours; echoed
  std::vector<Prompt> prompts;  // several only for completions; choice index = prompt * n + i
  int32_t n = 1;
  engine::SamplingParams
      sampling;  // max_tokens < 0: whatever the context leaves; seed drawn if absent
  bool has_seed = false,
       has_max_tokens =
           false;  // the client's own numbers: refused, not clipped, when they do not fit
  std::vector<std::string> stop;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool echo = false;  // completions
  bool return_token_ids = false, return_tokens_as_token_ids = false;
  bool stream = false;
  bool include_usage = false, continuous_usage = false;
  int32_t priority = 0;
  std::string cache_salt, user;
  int64_t body_bytes = 0;  // what the call weighs in the queue until it is tokenized
  std::vector<std::string> ignored_fields;  // unknown ones, first 16: counted, never passed on
};

}  // namespace modu::api
