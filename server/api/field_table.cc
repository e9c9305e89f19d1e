#include "server/api/field_table.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "server/api/ranges.h"

namespace modu::api {
namespace {

using Error = std::optional<ApiError>;

ApiError MustBe(std::string_view name, std::string_view what) {
  return InvalidField(std::string(name), std::string(name) + " must be " + std::string(what));
}

ApiError NotSupported(std::string_view name, std::string_view but = "") {
  return InvalidField(std::string(name),
                      std::string(name) + " is not supported" + (but.empty() ? "" : ", but for ") +
                          std::string(but),
                      "unsupported_parameter");
}

struct Context {
  const char* name;
  const Json& value;
  const Limits& limits;
  FieldSink& sink;
};
using Handler = Error (*)(const Context&);

// A field with a range is told the range whatever is wrong with its value.
Error Ranged(const Context& c, Error wrong_type) {
  const std::optional<NumericRange> range = RangeOf(c.name, c.limits);
  return range ? OutsideRange(c.name, *range) : std::move(wrong_type);
}

// Generators of handlers for members of RequestFields.
template <auto Member>
Error Double(const Context& c) {
  if (!c.value.is_number()) return Ranged(c, MustBe(c.name, "a number"));
  c.sink.fields.*Member = c.value.get<double>();
  return std::nullopt;
}
template <auto Member>
Error Integer(const Context& c) {
  int64_t value = 0;
  if (Error error = ReadInteger(c.name, c.value, &value)) return Ranged(c, std::move(error));
  c.sink.fields.*Member = value;
  return std::nullopt;
}
template <auto Member>
Error Bool(const Context& c) {
  return ReadBool(c.name, c.value, &(c.sink.fields.*Member));
}
template <auto Member>
Error String(const Context& c) {
  return ReadString(c.name, c.value, &(c.sink.fields.*Member));
}

Error MaxTokens(const Context& c) {
  int64_t value = std::numeric_limits<int64_t>::max();  // too large for us: too large for any model
  if (!(c.value.is_number_unsigned() && c.value.get<uint64_t>() > static_cast<uint64_t>(value))) {
    if (Error error = ReadInteger(c.name, c.value, &value)) return error;
  }
  // max_tokens is the older name; the newer one wins where both are given.
  if (c.sink.fields.max_tokens && std::string_view(c.name) == "max_tokens") return std::nullopt;
  c.sink.fields.max_tokens = value;
  c.sink.fields.max_tokens_name = c.name;
  return std::nullopt;
}

Error LogitBias(const Context& c) {
  if (!c.value.is_object()) return MustBe(c.name, "an object of token id to bias");
  if (c.value.size() > static_cast<size_t>(c.limits.max_logit_bias)) {
    return MustBe(c.name,
                  "an object of at most " + std::to_string(c.limits.max_logit_bias) + " keys");
  }
  for (const auto& [key, bias] : c.value.items()) {
    const bool digits =
        !key.empty() && key.size() <= 10 &&
        std::all_of(key.begin(), key.end(), [](char d) { return '0' <= d && d <= '9'; });
    if (!digits || (key.size() > 1 && key[0] == '0'))
      return MustBe(c.name, "an object whose keys are token ids");
    if (!bias.is_number()) return MustBe(c.name, "an object whose values are numbers");
    c.sink.fields.logit_bias.emplace_back(std::stoll(key), bias.get<double>());
  }
  return std::nullopt;
}

Error Stop(const Context& c) {
  if (c.value.is_string()) {
    c.sink.fields.stop = {c.value.get<std::string>()};
    return std::nullopt;
  }
  if (!c.value.is_array()) return MustBe(c.name, "a string or an array of strings");
  if (c.value.size() > static_cast<size_t>(c.limits.max_stop_strings)) {
    return InvalidField(
        c.name, "stop must have at most " + std::to_string(c.limits.max_stop_strings) + " strings");
  }
  for (const Json& item : c.value) {
    if (!item.is_string()) return MustBe(c.name, "a string or an array of strings");
    c.sink.fields.stop.push_back(item.get<std::string>());
  }
  return std::nullopt;
}

Error StopTokenIds(const Context& c) {
  if (!c.value.is_array()) return MustBe(c.name, "an array of token ids");
  if (c.value.size() > static_cast<size_t>(c.limits.max_stop_token_ids)) {
    return MustBe(c.name, "an array of at most " + std::to_string(c.limits.max_stop_token_ids) +
                              " token ids");
  }
  for (const Json& item : c.value) {
    int64_t id = 0;
    if (ReadInteger(c.name, item, &id)) return MustBe(c.name, "an array of token ids");
    c.sink.fields.stop_token_ids.push_back(id);
  }
  return std::nullopt;
}

Error StreamOptions(const Context& c) {
  if (!c.value.is_object()) return MustBe(c.name, "an object");
  c.sink.fields.has_stream_options = true;
  for (const auto& [key, value] : c.value.items()) {
    if (value.is_null()) continue;
    if (key == "include_usage") {
      if (Error error =
              ReadBool("stream_options.include_usage", value, &c.sink.fields.include_usage))
        return error;
    } else if (key == "continuous_usage_stats") {
      if (Error error = ReadBool("stream_options.continuous_usage_stats", value,
                                 &c.sink.fields.continuous_usage)) {
        return error;
      }
    }
  }
  return std::nullopt;
}

Error CacheSalt(const Context& c) {
  c.sink.fields.has_cache_salt = true;
  return ReadString(c.name, c.value, &c.sink.fields.cache_salt);
}

Error Messages(const Context& c) {
  c.sink.messages = &c.value;
  return std::nullopt;
}
Error PromptMember(const Context& c) {
  c.sink.prompt = &c.value;
  return std::nullopt;
}
Error AddGenerationPrompt(const Context& c) {
  return ReadBool(c.name, c.value, &c.sink.add_generation_prompt);
}
Error ContinueFinalMessage(const Context& c) {
  return ReadBool(c.name, c.value, &c.sink.continue_final_message);
}
Error AddSpecialTokens(const Context& c) {
  bool value = false;
  if (Error error = ReadBool(c.name, c.value, &value)) return error;
  c.sink.add_special_tokens = value;
  return std::nullopt;
}

Error TemplateKwargs(const Context& c) {
  if (!c.value.is_object()) return MustBe(c.name, "an object");
  for (const auto& [key, value] : c.value.items()) {
    if (IsReservedTemplateName(key)) {
      return InvalidField(
          c.name, "chat_template_kwargs must not set " + key + ", which is the server's own");
    }
    c.sink.template_kwargs[key] = value;
  }
  return std::nullopt;
}

Error Documents(const Context& c) {
  if (!c.value.is_array()) return MustBe(c.name, "an array of objects");
  for (const Json& item : c.value) {
    if (!item.is_object()) return MustBe(c.name, "an array of objects");
  }
  c.sink.template_kwargs["documents"] = c.value;
  return std::nullopt;
}

Error ReasoningEffort(const Context& c) {
  constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                        "high", "xhigh",   "max"};
  std::string effort;
  if (Error error = ReadString(c.name, c.value, &effort)) return error;
  if (std::find(kEfforts.begin(), kEfforts.end(), effort) == kEfforts.end()) {
    return MustBe(c.name, "none, minimal, low, medium, high, xhigh or max");
  }
  c.sink.template_kwargs["reasoning_effort"] = effort;
  return std::nullopt;
}

Error Tools(const Context& c) {
  if (!c.value.is_array()) return MustBe(c.name, "an array");
  if (c.value.size() > 128) return MustBe(c.name, "an array of at most 128 tools");
  c.sink.has_tools = !c.value.empty();
  return std::nullopt;
}
Error ToolChoice(const Context& c) {
  if (c.value != "none") return NotSupported(c.name, "none");
  c.sink.tool_choice = "none";
  return std::nullopt;
}

Error ResponseFormat(const Context& c) {
  if (!c.value.is_object()) return MustBe(c.name, "an object");
  const auto type = c.value.find("type");
  if (type == c.value.end() || !type->is_string())
    return MustBe(c.name, "an object with a string type");
  if (*type != "text") return NotSupported(c.name, "type text");
  return std::nullopt;
}

Error Modalities(const Context& c) {
  if (c.value != Json::array({"text"})) return NotSupported(c.name, "[\"text\"]");
  return std::nullopt;
}
Error Suffix(const Context& c) {
  if (c.value != "") return NotSupported(c.name);
  return std::nullopt;
}

// Known, and without effect here: type still checked where it is cheap to.
Error Accepted(const Context&) { return std::nullopt; }
Error OnlyFalse(const Context& c) {
  bool value = false;
  if (Error error = ReadBool(c.name, c.value, &value)) return error;
  if (value) return NotSupported(c.name, "false");
  return std::nullopt;
}
Error OnlyTrue(const Context& c) {
  bool value = false;
  if (Error error = ReadBool(c.name, c.value, &value)) return error;
  if (!value) return NotSupported(c.name, "true");
  return std::nullopt;
}
Error AnyBool(const Context& c) {
  bool value = false;
  return ReadBool(c.name, c.value, &value);
}
Error OnlyOne(const Context& c) {
  if (!c.value.is_number() || c.value.get<double>() != 1.0) return NotSupported(c.name, "1");
  return std::nullopt;
}
Error OnlyEmpty(const Context& c) {
  if (!(c.value.is_array() && c.value.empty())) return NotSupported(c.name);
  return std::nullopt;
}
Error Never(const Context& c) { return NotSupported(c.name); }
Error RequestTemplate(const Context& c) {
  return InvalidField(c.name, "chat_template in a request is not allowed on this server",
                      "unsupported_parameter");
}

using Table = std::unordered_map<std::string_view, Handler>;
using F = RequestFields;

const Table& CommonTable() {
  static const Table* table = new Table{
      {"model", &String<&F::model>},
      {"temperature", &Double<&F::temperature>},
      {"top_p", &Double<&F::top_p>},
      {"min_p", &Double<&F::min_p>},
      {"repetition_penalty", &Double<&F::repetition_penalty>},
      {"presence_penalty", &Double<&F::presence_penalty>},
      {"frequency_penalty", &Double<&F::frequency_penalty>},
      {"top_k", &Integer<&F::top_k>},
      {"min_tokens", &Integer<&F::min_tokens>},
      {"n", &Integer<&F::n>},
      {"best_of", &Integer<&F::best_of>},
      {"seed", &Integer<&F::seed>},
      {"priority", &Integer<&F::priority>},
      {"max_tokens", &MaxTokens},
      {"logit_bias", &LogitBias},
      {"stop", &Stop},
      {"stop_token_ids", &StopTokenIds},
      {"ignore_eos", &Bool<&F::ignore_eos>},
      {"include_stop_str_in_output", &Bool<&F::include_stop_str_in_output>},
      {"skip_special_tokens", &Bool<&F::skip_special_tokens>},
      {"echo", &Bool<&F::echo>},
      {"return_token_ids", &Bool<&F::return_token_ids>},
      {"return_tokens_as_token_ids", &Bool<&F::return_tokens_as_token_ids>},
      {"stream", &Bool<&F::stream>},
      {"stream_options", &StreamOptions},
      {"cache_salt", &CacheSalt},
      {"user", &String<&F::user>},
      {"request_id", &String<&F::request_id>},
      {"add_special_tokens", &AddSpecialTokens},
      {"response_format", &ResponseFormat},
      {"spaces_between_special_tokens", &OnlyTrue},
      {"use_beam_search", &OnlyFalse},
      {"length_penalty", &OnlyOne},
      {"stream_interval", &OnlyOne},
      {"early_stopping", &OnlyFalse},
      {"bad_words", &OnlyEmpty},
      {"session_id", &Accepted},
      {"metadata", &Accepted},
      {"service_tier", &Accepted},
      {"safety_identifier", &Accepted},
      {"prompt_cache_key", &Accepted},
      {"prompt_cache_retention", &Accepted},
      {"store", &OnlyFalse},
      {"prompt_embeds", &Never},
      {"structured_outputs", &Never},
      {"guided_json", &Never},
      {"guided_regex", &Never},
      {"guided_choice", &Never},
      {"guided_grammar", &Never},
      {"guided_decoding_backend", &Never},
      {"guided_whitespace_pattern", &Never},
      {"grammar", &Never},
      {"json_schema", &Never},
      {"regex", &Never},
      {"ebnf", &Never},
      {"structural_tag", &Never},
      {"lora", &Never},
      {"lora_path", &Never},
      {"lora_request", &Never},
      {"allowed_token_ids", &Never},
      {"logprob_token_ids", &Never},
      {"prompt_logprobs", &Never},
      {"truncate_prompt_tokens", &Never},
      {"repetition_detection", &Never},
      {"thinking_token_budget", &Never},
      {"watermarking", &Never},
      {"logits_processors", &Never},
      {"custom_logit_processor", &Never},
      {"kv_transfer_params", &Never},
      {"ec_transfer_params", &Never},
      {"vllm_xargs", &Never},
      {"return_token_offsets", &OnlyFalse},
      {"return_prompt_text", &OnlyFalse},
      {"return_mm_kwargs", &OnlyFalse},
  };
  return *table;
}

const Table& ChatTable() {
  static const Table* table = new Table{
      {"messages", &Messages},
      {"max_completion_tokens", &MaxTokens},
      {"logprobs", &Bool<&F::logprobs>},
      {"top_logprobs", &Integer<&F::top_logprobs>},
      {"add_generation_prompt", &AddGenerationPrompt},
      {"continue_final_message", &ContinueFinalMessage},
      {"chat_template_kwargs", &TemplateKwargs},
      {"documents", &Documents},
      {"reasoning_effort", &ReasoningEffort},
      {"chat_template", &RequestTemplate},
      {"tools", &Tools},
      {"tool_choice", &ToolChoice},
      {"parallel_tool_calls", &AnyBool},
      {"include_reasoning", &AnyBool},
      {"functions", &OnlyEmpty},
      {"function_call", &ToolChoice},
      {"modalities", &Modalities},
      {"audio", &Never},
      {"prediction", &Never},
      {"web_search_options", &Never},
      {"media_io_kwargs", &Never},
      {"mm_processor_kwargs", &Never},
  };
  return *table;
}

const Table& CompletionTable() {
  static const Table* table = new Table{
      {"prompt", &PromptMember},
      {"logprobs", &Integer<&F::top_logprobs>},
      {"suffix", &Suffix},
  };
  return *table;
}

}  // namespace

std::optional<ApiError> ReadInteger(const char* name, const Json& value, int64_t* out) {
  if (value.is_number_unsigned()) {
    const uint64_t wide = value.get<uint64_t>();
    if (wide > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return MustBe(name, "an integer of at most 64 bits, with sign");
    }
    *out = static_cast<int64_t>(wide);
    return std::nullopt;
  }
  if (!value.is_number_integer()) return MustBe(name, "an integer of at most 64 bits, with sign");
  *out = value.get<int64_t>();
  return std::nullopt;
}

std::optional<ApiError> ReadBool(const char* name, const Json& value, bool* out) {
  if (!value.is_boolean()) return MustBe(name, "true or false");
  *out = value.get<bool>();
  return std::nullopt;
}

std::optional<ApiError> ReadString(const char* name, const Json& value, std::string* out) {
  if (!value.is_string()) return MustBe(name, "a string");
  *out = value.get_ref<const std::string&>();
  return std::nullopt;
}

std::optional<ApiError> ReadFields(const Json& body, Door door, const Limits& limits,
                                   FieldSink* sink) {
  const Table& own = door == Door::kChat ? ChatTable() : CompletionTable();
  sink->fields.chat = door == Door::kChat;
  for (const auto& [name, value] : body.items()) {
    auto row = own.find(name);
    if (row == own.end()) {
      row = CommonTable().find(name);
      if (row == CommonTable().end()) {
        constexpr size_t kMostListed = 16;
        if (sink->ignored.size() < kMostListed) sink->ignored.push_back(name.substr(0, 64));
        continue;
      }
    }
    if (value.is_null()) continue;  // as if it were not there, as OpenAI's clients send it
    if (Error error = row->second(Context{row->first.data(), value, limits, *sink})) return error;
  }
  if (sink->has_tools && sink->tool_choice != "none")
    return NotSupported("tools", "tool_choice none");
  return std::nullopt;
}

}  // namespace modu::api
