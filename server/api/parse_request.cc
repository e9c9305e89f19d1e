#include "server/api/parse_request.h"

#include <algorithm>
#include <utility>

#include "server/api/field_table.h"

namespace modu::api {
namespace {

using Error = std::optional<ApiError>;

Error ReadTokenIds(const char* name, const Json& items, const ServedModel& model,
                   std::vector<int32_t>* out) {
  out->reserve(items.size());
  for (const Json& item : items) {
    int64_t id = 0;
    if (ReadInteger(name, item, &id)) {
      return InvalidField(name,
                          std::string(name) + ": a list of token ids must hold integers only");
    }
    if (!(0 <= id && id < model.vocab_size)) {
      return InvalidField(name, std::string(name) + ": token id " + std::to_string(id) +
                                    " not in 0.." + std::to_string(model.vocab_size - 1));
    }
    out->push_back(static_cast<int32_t>(id));
  }
  return std::nullopt;
}

// str | [str] | [int] | [[int]]
Error ReadPrompt(const Json& value, bool add_special, const ServedModel& model,
                 const Limits& limits, std::vector<Prompt>* out) {
  const auto must = [] {
    return InvalidField(
        "prompt",
        "prompt must be a string, an array of strings, token ids, or arrays of token ids");
  };
  if (value.is_string()) {
    out->emplace_back(TextPrompt{value.get<std::string>(), add_special});
    return std::nullopt;
  }
  if (!value.is_array()) return must();
  if (value.empty()) return InvalidField("prompt", "prompt must not be empty");
  const Json& first = value.front();
  if (first.is_number()) {
    TokenPrompt tokens;
    if (Error error = ReadTokenIds("prompt", value, model, &tokens.token_ids)) return error;
    out->emplace_back(std::move(tokens));
    return std::nullopt;
  }
  if (value.size() > static_cast<size_t>(limits.max_prompts)) {
    return InvalidField(
        "prompt", "prompt must have at most " + std::to_string(limits.max_prompts) + " prompts");
  }
  for (const Json& item : value) {
    if (item.type() != first.type()) return must();
    if (item.is_string()) {
      out->emplace_back(TextPrompt{item.get<std::string>(), add_special});
    } else if (item.is_array()) {
      TokenPrompt tokens;
      if (Error error = ReadTokenIds("prompt", item, model, &tokens.token_ids)) return error;
      out->emplace_back(std::move(tokens));
    } else {
      return must();
    }
  }
  return std::nullopt;
}

Parsed<ChatPrompt> MakeChatPrompt(FieldSink* sink, const Limits& limits) {
  if (sink->messages == nullptr) return InvalidField("messages", "messages is required");
  Parsed<Json> messages = ValidateMessages(*sink->messages, limits);
  if (auto* error = std::get_if<ApiError>(&messages)) return *error;
  ChatPrompt prompt;
  prompt.messages = std::move(std::get<Json>(messages));
  prompt.template_kwargs = std::move(sink->template_kwargs);
  prompt.add_generation_prompt = sink->add_generation_prompt;
  prompt.continue_final_message = sink->continue_final_message;
  prompt.add_special_tokens = sink->add_special_tokens.value_or(false);
  if (Error error = CheckContinuation(prompt)) return *error;
  return prompt;
}

}  // namespace

Error CheckContinuation(const ChatPrompt& prompt) {
  if (!prompt.continue_final_message) return std::nullopt;
  if (prompt.add_generation_prompt) {
    return InvalidField("continue_final_message",
                        "continue_final_message and add_generation_prompt must not both be true");
  }
  if (prompt.messages.back().at("role") != "assistant") {
    return InvalidField("continue_final_message",
                        "continue_final_message needs a last message of the assistant's");
  }
  return std::nullopt;
}

Parsed<GenerationRequest> ParseChatRequest(std::string_view body, const ServedModel& model,
                                           const Limits& limits) {
  Parsed<Json> json = ReadJsonObject(body, limits);
  if (auto* error = std::get_if<ApiError>(&json)) return *error;
  FieldSink sink;
  if (Error error = ReadFields(std::get<Json>(json), Door::kChat, limits, &sink)) return *error;
  if (Error error = CheckModel(sink.fields.model, model)) return *error;
  Parsed<ChatPrompt> prompt = MakeChatPrompt(&sink, limits);
  if (auto* error = std::get_if<ApiError>(&prompt)) return *error;
  sink.fields.prompts.emplace_back(std::move(std::get<ChatPrompt>(prompt)));
  Parsed<GenerationRequest> result = Validate(std::move(sink.fields), model, limits);
  if (auto* request = std::get_if<GenerationRequest>(&result)) {
    request->ignored_fields = std::move(sink.ignored);
    request->body_bytes = static_cast<int64_t>(body.size());
  }
  return result;
}

Parsed<GenerationRequest> ParseCompletionRequest(std::string_view body, const ServedModel& model,
                                                 const Limits& limits) {
  Parsed<Json> json = ReadJsonObject(body, limits);
  if (auto* error = std::get_if<ApiError>(&json)) return *error;
  FieldSink sink;
  if (Error error = ReadFields(std::get<Json>(json), Door::kCompletions, limits, &sink))
    return *error;
  if (Error error = CheckModel(sink.fields.model, model)) return *error;
  if (sink.prompt == nullptr) return InvalidField("prompt", "prompt is required");
  const bool add_special = sink.add_special_tokens.value_or(true);
  if (Error error = ReadPrompt(*sink.prompt, add_special, model, limits, &sink.fields.prompts))
    return *error;
  Parsed<GenerationRequest> result = Validate(std::move(sink.fields), model, limits);
  if (auto* request = std::get_if<GenerationRequest>(&result)) {
    request->ignored_fields = std::move(sink.ignored);
    request->body_bytes = static_cast<int64_t>(body.size());
  }
  return result;
}

Parsed<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const ServedModel& model,
                                             const Limits& limits) {
  Parsed<Json> json = ReadJsonObject(body, limits);
  if (auto* error = std::get_if<ApiError>(&json)) return *error;
  const Json& object = std::get<Json>(json);
  TokenizeRequest request;
  if (const auto flag = object.find("return_token_strs");
      flag != object.end() && !flag->is_null()) {
    if (Error error = ReadBool("return_token_strs", *flag, &request.return_token_strs))
      return *error;
  }
  if (model.tokenizer == nullptr)
    return InvalidField("prompt", "this model is served without a tokenizer");
  const bool chat = object.contains("messages");
  if (chat && object.contains("prompt"))
    return InvalidField("prompt", "prompt and messages must not both be given");
  FieldSink sink;
  if (Error error = ReadFields(object, chat ? Door::kChat : Door::kCompletions, limits, &sink))
    return *error;
  if (Error error = CheckModel(sink.fields.model, model)) return *error;
  if (chat) {
    if (model.chat_template == nullptr)
      return InvalidField("messages", "this model has no chat template");
    Parsed<ChatPrompt> prompt = MakeChatPrompt(&sink, limits);
    if (auto* error = std::get_if<ApiError>(&prompt)) return *error;
    request.prompt = std::move(std::get<ChatPrompt>(prompt));
    return request;
  }
  if (sink.prompt == nullptr || !sink.prompt->is_string())
    return InvalidField("prompt", "prompt must be a string");
  request.prompt =
      TextPrompt{sink.prompt->get<std::string>(), sink.add_special_tokens.value_or(true)};
  return request;
}

Parsed<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body, const ServedModel& model,
                                                 const Limits& limits) {
  Parsed<Json> json = ReadJsonObject(body, limits);
  if (auto* error = std::get_if<ApiError>(&json)) return *error;
  const Json& object = std::get<Json>(json);
  if (model.tokenizer == nullptr)
    return InvalidField("tokens", "this model is served without a tokenizer");
  if (const auto name = object.find("model"); name != object.end() && !name->is_null()) {
    std::string text;
    if (Error error = ReadString("model", *name, &text)) return *error;
    if (Error error = CheckModel(text, model)) return *error;
  }
  const auto tokens = object.find("tokens");
  if (tokens == object.end() || !tokens->is_array()) {
    return InvalidField("tokens", "tokens must be an array of token ids");
  }
  DetokenizeRequest request;
  if (Error error = ReadTokenIds("tokens", *tokens, model, &request.token_ids)) return *error;
  return request;
}

Parsed<ChatPrompt> ParseRenderRequest(std::string_view body, const ServedModel& model,
                                      const Limits& limits) {
  Parsed<GenerationRequest> parsed = ParseChatRequest(body, model, limits);
  if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
  return std::move(std::get<ChatPrompt>(std::get<GenerationRequest>(parsed).prompts.front()));
}

}  // namespace modu::api
