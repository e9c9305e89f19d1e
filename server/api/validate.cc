// What holds between fields, and between a field and the model. Ranges of single fields: ranges.h.
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "kernels/check.h"
#include "server/api/ranges.h"
#include "server/api/request_fields.h"

namespace modu::api {
namespace {

using Error = std::optional<ApiError>;

// A 64-bit integer as a double is exact where any of these ranges ends.
template <typename T>
Error CheckRange(const char* name, const std::optional<T>& value, const Limits& limits) {
  if (!value) return std::nullopt;
  const std::optional<NumericRange> range = RangeOf(name, limits);
  MODU_CHECK(range.has_value());
  if (range->Holds(static_cast<double>(*value))) return std::nullopt;
  return OutsideRange(name, *range);
}

Error TokenInVocabulary(const char* name, int64_t id, int32_t vocab_size) {
  if (0 <= id && id < vocab_size) return std::nullopt;
  return InvalidField(name, std::string(name) + ": token id " + std::to_string(id) + " not in 0.." +
                                std::to_string(vocab_size - 1));
}

// Request, then the model's generation_config (unset fields are negative there), then OpenAI's
// default.
float Pick(const std::optional<double>& asked, float of_model, float fallback) {
  if (asked) return static_cast<float>(*asked);
  return of_model >= 0 ? of_model : fallback;
}

constexpr double kMinTopP = 1e-6;  // "(0, 1]": below this nothing but the best token is left anyway

Error CheckNumbers(const RequestFields& f, const Limits& limits) {
  if (Error error = CheckRange("temperature", f.temperature, limits)) return error;
  if (Error error = CheckRange("min_p", f.min_p, limits)) return error;
  if (Error error = CheckRange("repetition_penalty", f.repetition_penalty, limits)) return error;
  if (Error error = CheckRange("presence_penalty", f.presence_penalty, limits)) return error;
  if (Error error = CheckRange("frequency_penalty", f.frequency_penalty, limits)) return error;
  if (Error error = CheckRange("top_p", f.top_p, limits)) return error;
  if (Error error = CheckRange("top_k", f.top_k, limits)) return error;
  if (Error error = CheckRange("n", f.n, limits)) return error;
  if (f.best_of && *f.best_of != f.n.value_or(1)) {
    return InvalidField("best_of", "best_of is not supported unless it equals n",
                        "unsupported_parameter");
  }
  if (Error error = CheckRange("priority", f.priority, limits)) return error;
  const char* top = f.chat ? "top_logprobs" : "logprobs";
  if (Error error = CheckRange(top, f.top_logprobs, limits)) return error;
  if (f.top_logprobs && f.chat && !f.logprobs) {
    return InvalidField(top, "top_logprobs needs logprobs: true");
  }
  return std::nullopt;
}

Error CheckLengths(const RequestFields& f, const ServedModel& model, const Limits& limits) {
  if (f.max_tokens) {
    const int64_t low = f.chat ? 1 : 0;
    if (!(low <= *f.max_tokens && *f.max_tokens <= model.max_model_len)) {
      return InvalidField(f.max_tokens_name,
                          f.max_tokens_name + " must be an integer between " + std::to_string(low) +
                              " and the context length of " + std::to_string(model.max_model_len));
    }
    const NumericRange range{true, static_cast<double>(low),
                             static_cast<double>(limits.max_output_tokens)};
    if (limits.max_output_tokens > 0 && !range.Holds(static_cast<double>(*f.max_tokens))) {
      return OutsideRange(f.max_tokens_name, range);
    }
  }
  if (f.min_tokens) {
    const int64_t high = f.max_tokens.value_or(model.max_model_len);
    if (!(0 <= *f.min_tokens && *f.min_tokens <= high)) {
      return InvalidField(
          "min_tokens", "min_tokens must be an integer between 0 and " +
                            (f.max_tokens ? f.max_tokens_name : std::string("the context length")) +
                            " (" + std::to_string(high) + ")");
    }
  }
  return std::nullopt;
}

Error CheckStops(const RequestFields& f, const ServedModel& model, const Limits& limits) {
  if (f.stop.size() > static_cast<size_t>(limits.max_stop_strings)) {
    return InvalidField(
        "stop", "stop must have at most " + std::to_string(limits.max_stop_strings) + " strings");
  }
  for (const std::string& stop : f.stop) {
    if (stop.empty()) return InvalidField("stop", "stop must not contain an empty string");
    if (stop.size() > static_cast<size_t>(limits.max_stop_bytes)) {
      return InvalidField("stop", "a stop string must have at most " +
                                      std::to_string(limits.max_stop_bytes) + " bytes");
    }
  }
  if (f.stop_token_ids.size() > static_cast<size_t>(limits.max_stop_token_ids)) {
    return InvalidField("stop_token_ids", "stop_token_ids must have at most " +
                                              std::to_string(limits.max_stop_token_ids) + " items");
  }
  for (int64_t id : f.stop_token_ids) {
    if (Error error = TokenInVocabulary("stop_token_ids", id, model.vocab_size)) return error;
  }
  return std::nullopt;
}

Error CheckLogitBias(const RequestFields& f, const ServedModel& model, const Limits& limits) {
  if (f.logit_bias.size() > static_cast<size_t>(limits.max_logit_bias)) {
    return InvalidField("logit_bias", "logit_bias must have at most " +
                                          std::to_string(limits.max_logit_bias) + " keys");
  }
  for (const auto& [id, bias] : f.logit_bias) {
    if (Error error = TokenInVocabulary("logit_bias", id, model.vocab_size)) return error;
    if (!(-100 <= bias && bias <= 100)) {
      return InvalidField("logit_bias", "logit_bias values must be between -100 and 100");
    }
  }
  return std::nullopt;
}

Error CheckPrompts(const RequestFields& f, const ServedModel& model, const Limits& limits) {
  const char* name = f.chat ? "messages" : "prompt";
  if (f.prompts.empty()) return InvalidField(name, std::string(name) + " must not be empty");
  if (f.prompts.size() > static_cast<size_t>(limits.max_prompts)) {
    return InvalidField(
        name, "prompt must have at most " + std::to_string(limits.max_prompts) + " prompts");
  }
  const int64_t choices = static_cast<int64_t>(f.prompts.size()) * f.n.value_or(1);
  const int64_t most = std::max({limits.max_n, limits.max_prompts, 1});
  if (choices > most) {
    return InvalidField("n",
                        "n times the number of prompts must be at most " + std::to_string(most));
  }
  for (const Prompt& prompt : f.prompts) {
    const auto* tokens = std::get_if<TokenPrompt>(&prompt);
    if (tokens == nullptr) {
      if (model.tokenizer == nullptr) {
        return InvalidField(name,
                            "this model is served without a tokenizer: prompt must be token ids");
      }
      if (std::holds_alternative<ChatPrompt>(prompt) && model.chat_template == nullptr) {
        return InvalidField("messages", "this model has no chat template: use /v1/completions");
      }
      continue;
    }
    if (tokens->token_ids.empty()) return InvalidField(name, "prompt must not be empty");
    if (tokens->token_ids.size() > static_cast<size_t>(model.max_model_len)) {
      return ContextLengthExceeded(
          name, model.max_model_len,
          std::to_string(tokens->token_ids.size()) + " tokens in the prompt", true);
    }
    for (int32_t id : tokens->token_ids) {
      if (Error error = TokenInVocabulary(name, id, model.vocab_size)) return error;
    }
  }
  return std::nullopt;
}

Error CheckRest(const RequestFields& f) {
  if (f.has_stream_options && !f.stream) {
    return InvalidField("stream_options", "stream_options needs stream: true");
  }
  if (f.has_cache_salt && (f.cache_salt.empty() || f.cache_salt.size() > 128)) {
    return InvalidField("cache_salt", "cache_salt must have 1 to 128 bytes");
  }
  const auto printable = [](char c) { return 0x20 < c && c < 0x7f; };
  if (f.request_id.size() > 128 ||
      !std::all_of(f.request_id.begin(), f.request_id.end(), printable)) {
    return InvalidField("request_id",
                        "request_id must have at most 128 printable ASCII characters");
  }
  if (f.echo && f.chat)
    return InvalidField("echo", "echo is not supported in chat", "unsupported_parameter");
  return std::nullopt;
}

engine::SamplingParams MakeSampling(const RequestFields& f, const ServedModel& model,
                                    const Limits& limits) {
  const engine::GenerationDefaults& defaults = model.defaults;
  engine::SamplingParams s;
  s.temperature = std::clamp(Pick(f.temperature, defaults.temperature, 1.0f), 0.0f, 2.0f);
  s.top_p = std::clamp(Pick(f.top_p, defaults.top_p, 1.0f), static_cast<float>(kMinTopP), 1.0f);
  s.min_p = std::clamp(Pick(f.min_p, defaults.min_p, 0.0f), 0.0f, 1.0f);
  s.repetition_penalty = std::clamp(Pick(f.repetition_penalty, defaults.repetition_penalty, 1.0f),
                                    static_cast<float>(kMinRepetitionPenalty),
                                    static_cast<float>(kMaxRepetitionPenalty));
  s.presence_penalty = static_cast<float>(f.presence_penalty.value_or(0));
  s.frequency_penalty = static_cast<float>(f.frequency_penalty.value_or(0));
  const int64_t top_k = f.top_k.value_or(std::max(defaults.top_k, 0));
  s.top_k = top_k <= 0 || top_k >= model.vocab_size ? 0 : static_cast<int32_t>(top_k);
  for (const auto& [id, bias] : f.logit_bias) {
    s.logit_bias.emplace_back(static_cast<int32_t>(id), static_cast<float>(bias));
  }
  s.seed = static_cast<uint64_t>(f.seed.value_or(0));
  if (f.max_tokens) {
    s.max_tokens = static_cast<int32_t>(*f.max_tokens);
  } else if (defaults.max_new_tokens > 0) {
    s.max_tokens = defaults.max_new_tokens;
  } else {
    s.max_tokens = f.chat ? -1 : 16;
  }
  if (!f.max_tokens && f.min_tokens && s.max_tokens >= 0) {
    s.max_tokens = std::max(s.max_tokens, static_cast<int32_t>(*f.min_tokens));
  }
  if (!f.max_tokens && limits.max_output_tokens > 0) {
    s.max_tokens = s.max_tokens < 0 ? limits.max_output_tokens
                                    : std::min(s.max_tokens, limits.max_output_tokens);
  }
  s.min_tokens = static_cast<int32_t>(f.min_tokens.value_or(0));
  s.ignore_eos = f.ignore_eos;
  for (int64_t id : f.stop_token_ids) s.stop_token_ids.push_back(static_cast<int32_t>(id));
  if (f.top_logprobs) {
    s.top_logprobs = static_cast<int32_t>(*f.top_logprobs);
  } else if (f.logprobs) {
    s.top_logprobs = 0;
  }
  if (f.echo && s.top_logprobs >= 0) s.prompt_logprobs = s.top_logprobs;
  return s;
}

}  // namespace

Parsed<GenerationRequest> Validate(RequestFields fields, const ServedModel& model,
                                   const Limits& limits) {
  if (Error error = CheckModel(fields.model, model)) return *error;
  if (Error error = CheckNumbers(fields, limits)) return *error;
  if (Error error = CheckLengths(fields, model, limits)) return *error;
  if (Error error = CheckStops(fields, model, limits)) return *error;
  if (Error error = CheckLogitBias(fields, model, limits)) return *error;
  if (Error error = CheckRest(fields)) return *error;
  if (Error error = CheckPrompts(fields, model, limits)) return *error;

  GenerationRequest request;
  request.sampling = MakeSampling(fields, model, limits);
  if (request.sampling.min_tokens > 0 && request.sampling.max_tokens >= 0 &&
      request.sampling.min_tokens > request.sampling.max_tokens) {
    return InvalidField("min_tokens", "min_tokens must be at most " +
                                          std::to_string(request.sampling.max_tokens) +
                                          ", the limit on output tokens");
  }
  if (model.tokenizer == nullptr && !fields.stop.empty()) {
    return InvalidField("stop", "this model is served without a tokenizer: use stop_token_ids");
  }
  request.request_id = std::move(fields.request_id);
  request.prompts = std::move(fields.prompts);
  request.n = static_cast<int32_t>(fields.n.value_or(1));
  request.has_seed = fields.seed.has_value();
  request.has_max_tokens = fields.max_tokens.has_value();
  request.stop = std::move(fields.stop);
  request.include_stop_str_in_output = fields.include_stop_str_in_output;
  request.skip_special_tokens = fields.skip_special_tokens;
  request.echo = fields.echo;
  request.return_token_ids = fields.return_token_ids;
  request.return_tokens_as_token_ids = fields.return_tokens_as_token_ids;
  request.stream = fields.stream;
  request.include_usage = fields.include_usage;
  request.continuous_usage = fields.continuous_usage;
  request.priority = static_cast<int32_t>(fields.priority.value_or(0));
  request.cache_salt = std::move(fields.cache_salt);
  request.user = std::move(fields.user);
  return request;
}

std::optional<ApiError> CheckModel(std::string_view name, const ServedModel& model) {
  if (name.empty() ||
      std::find(model.names.begin(), model.names.end(), name) != model.names.end()) {
    return std::nullopt;
  }
  std::string served;  // what the client wrote it knows: messages repeat none of it
  for (const std::string& each : model.names) served += (served.empty() ? "" : ", ") + each;
  return MakeError(404, "the model does not exist; served here: " + served, "model_not_found",
                   "model");
}

std::string RandomId(std::string_view prefix) {
  std::array<unsigned char, 16> bytes{};
  // Up to 256 bytes come whole and without a wait once the system is up.
  MODU_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  std::string id(prefix);
  for (unsigned char byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    id += kDigits[byte >> 4];
    id += kDigits[byte & 15];
  }
  return id;
}

}  // namespace modu::api
