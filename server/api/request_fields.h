// A request as a door read it, before anything was checked against limits: what JSON and protobuf
// have in common. Integers are 64 bits wide and floats are doubles, so that nothing wraps before
// Validate sees it. Validate is the only place where ranges are checked, so both doors refuse the
// same requests with the same words. Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "server/api/error.h"
#include "server/api/generation_request.h"
#include "server/api/limits.h"
#include "server/api/served_model.h"

namespace modu::api {

/// A value, or the error that goes back to the client.
template <typename T>
using Parsed = std::variant<T, ApiError>;

struct RequestFields {
  bool chat =
      false;  // chat: max_tokens from 1, absent: what the context leaves; else from 0, absent: 16
  std::string model;  // "": the first served name
  std::vector<Prompt> prompts;

  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k, max_tokens, min_tokens, n, best_of, seed, priority;
  std::string max_tokens_name = "max_tokens";  // the name the client used, for messages
  bool logprobs = false;
  std::optional<int64_t> top_logprobs;  // chat: needs logprobs; completions: `logprobs` itself
  std::vector<std::pair<int64_t, double>> logit_bias;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false, include_stop_str_in_output = false, skip_special_tokens = true;
  bool echo = false, return_token_ids = false, return_tokens_as_token_ids = false;
  bool stream = false, has_stream_options = false, include_usage = false, continuous_usage = false;
  std::string cache_salt, user, request_id;
  bool has_cache_salt = false;
};

/// Every range of api.md section 2, closed intervals, defaults from the model's generation config
/// and then OpenAI's. Prompts are checked too: token ids against the vocabulary, messages already
/// by ValidateMessages.
Parsed<GenerationRequest> Validate(RequestFields fields, const ServedModel& model,
                                   const Limits& limits);

/// The prompt of a chat from raw messages: roles known, contents text, parts joined as given,
/// unknown fields dropped. `messages` is an array of objects as the client sent them (protobuf
/// doors build the same shape).
Parsed<nlohmann::ordered_json> ValidateMessages(const nlohmann::ordered_json& messages,
                                                const Limits& limits);

/// continue_final_message: the last message must be the assistant's, and no new turn be opened.
std::optional<ApiError> CheckContinuation(const ChatPrompt& prompt);

/// 404 model_not_found when `name` is neither empty nor served.
std::optional<ApiError> CheckModel(std::string_view name, const ServedModel& model);

/// "chatcmpl-" and 32 hexadecimal digits from the kernel's random source.
std::string RandomId(std::string_view prefix);

/// Names that template_kwargs must not carry: they are the server's own.
bool IsReservedTemplateName(std::string_view name);

}  // namespace modu::api
