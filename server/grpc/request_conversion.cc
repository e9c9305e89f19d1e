#include "server/grpc/request_conversion.h"

#include <string>
#include <utility>

namespace modu::grpc_door {
namespace {

namespace pb = modu::v1;
using Json = nlohmann::ordered_json;

template <typename Repeated>
api::Parsed<std::vector<int32_t>> IdsInVocabulary(const Repeated& ids, const char* name,
                                                  const api::ServedModel& model) {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(ids.size()));
  for (int64_t id : ids) {
    if (id < 0 || id >= model.vocab_size) {
      return api::InvalidField(name, std::string(name) + ": token id " + std::to_string(id) +
                                         " not in 0.." + std::to_string(model.vocab_size - 1));
    }
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

const char* RoleName(pb::Role role) {
  switch (role) {
    case pb::ROLE_SYSTEM:
      return "system";
    case pb::ROLE_USER:
      return "user";
    case pb::ROLE_ASSISTANT:
      return "assistant";
    case pb::ROLE_TOOL:
      return "tool";
    case pb::ROLE_DEVELOPER:
      return "developer";
    default:
      return "";  // unspecified, or of a newer client: refused by name with the others
  }
}

api::Parsed<api::ChatPrompt> ToChatPrompt(const pb::Conversation& conversation,
                                          const api::Limits& limits) {
  // ValidateMessages bounds the count too, but not before a copy.
  if (conversation.messages_size() > limits.max_messages) {
    return api::InvalidField(
        "messages", "messages must have at most " + std::to_string(limits.max_messages) + " items");
  }
  Json messages = Json::array();
  for (const pb::Message& message : conversation.messages()) {
    Json copy = {{"role", RoleName(message.role())}};
    if (message.parts_size() > 0) {
      if (!message.content().empty()) {
        return api::InvalidField("messages", "messages: content or parts, not both");
      }
      Json parts = Json::array();
      for (const pb::ContentPart& part : message.parts()) {
        parts.push_back({{"type", part.has_text() ? "text" : "unknown"}, {"text", part.text()}});
      }
      copy["content"] = std::move(parts);
    } else {
      copy["content"] = message.content();
    }
    if (!message.name().empty()) copy["name"] = message.name();
    messages.push_back(std::move(copy));
  }
  auto checked = api::ValidateMessages(messages, limits);
  if (auto* error = std::get_if<api::ApiError>(&checked)) return *error;
  api::ChatPrompt prompt;
  prompt.messages = std::move(std::get<Json>(checked));
  if (conversation.has_add_generation_prompt()) {
    prompt.add_generation_prompt = conversation.add_generation_prompt();
  }
  prompt.continue_final_message = conversation.continue_final_message();
  for (const auto& [name, value] : conversation.template_arguments()) {
    if (api::IsReservedTemplateName(name)) {
      return api::InvalidField("template_arguments",
                               "template_arguments must not set a name of the server's own");
    }
    switch (value.value_case()) {
      case pb::TemplateValue::kBoolValue:
        prompt.template_kwargs[name] = value.bool_value();
        break;
      case pb::TemplateValue::kIntValue:
        prompt.template_kwargs[name] = value.int_value();
        break;
      case pb::TemplateValue::kDoubleValue:
        prompt.template_kwargs[name] = value.double_value();
        break;
      case pb::TemplateValue::kStringValue:
        prompt.template_kwargs[name] = value.string_value();
        break;
      case pb::TemplateValue::VALUE_NOT_SET:
        return api::InvalidField("template_arguments", "template_arguments: a value is missing");
    }
  }
  if (auto error = api::CheckContinuation(prompt)) return *error;
  return prompt;
}

/// Whatever is in range is for Validate to say.
void FillSampling(const pb::SamplingParams& from, api::RequestFields* to) {
  if (from.has_temperature()) to->temperature = from.temperature();
  if (from.has_top_p()) to->top_p = from.top_p();
  if (from.has_min_p()) to->min_p = from.min_p();
  if (from.has_top_k()) to->top_k = from.top_k();
  if (from.has_repetition_penalty()) to->repetition_penalty = from.repetition_penalty();
  if (from.has_presence_penalty()) to->presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to->frequency_penalty = from.frequency_penalty();
  for (const pb::LogitBias& bias : from.logit_bias()) {
    to->logit_bias.emplace_back(bias.token_id(), bias.bias());
  }
  if (from.has_seed()) to->seed = from.seed();
  if (from.has_max_tokens()) to->max_tokens = from.max_tokens();
  if (from.has_min_tokens()) to->min_tokens = from.min_tokens();
  to->stop.assign(from.stop().begin(), from.stop().end());
  to->stop_token_ids.assign(from.stop_token_ids().begin(), from.stop_token_ids().end());
  to->ignore_eos = from.ignore_eos();
  to->include_stop_str_in_output = from.include_stop_str_in_output();
  if (from.has_skip_special_tokens()) to->skip_special_tokens = from.skip_special_tokens();
  if (from.has_n()) to->n = from.n();
  if (from.has_logprobs()) {
    to->logprobs = true;
    to->top_logprobs = from.logprobs();
  }
}

void FillOptions(const pb::RequestOptions& from, api::RequestFields* to) {
  if (from.has_priority()) to->priority = from.priority();
  if (from.has_cache_salt()) {
    to->has_cache_salt = true;
    to->cache_salt = from.cache_salt();
  }
  to->user = from.user();
  to->request_id = from.request_id();
}

api::Parsed<api::GenerationRequest> Finish(api::RequestFields fields, size_t wire_bytes,
                                           const api::ServedModel& model,
                                           const api::Limits& limits) {
  fields.stream = true;
  fields.return_token_ids = true;
  auto result = api::Validate(std::move(fields), model, limits);
  if (auto* request = std::get_if<api::GenerationRequest>(&result)) {
    request->body_bytes = static_cast<int64_t>(wire_bytes);
  }
  return result;
}

}  // namespace

api::Parsed<api::GenerationRequest> ToGenerationRequest(const pb::ChatRequest& request,
                                                        const api::ServedModel& model,
                                                        const api::Limits& limits) {
  api::RequestFields fields;
  fields.chat = true;
  fields.model = request.model();
  if (auto error = api::CheckModel(fields.model, model)) return *error;
  auto prompt = ToChatPrompt(request.conversation(), limits);
  if (auto* error = std::get_if<api::ApiError>(&prompt)) return *error;
  fields.prompts.emplace_back(std::move(std::get<api::ChatPrompt>(prompt)));
  FillSampling(request.sampling(), &fields);
  FillOptions(request.options(), &fields);
  return Finish(std::move(fields), request.ByteSizeLong(), model, limits);
}

api::Parsed<api::GenerationRequest> ToGenerationRequest(const pb::GenerateRequest& request,
                                                        const api::ServedModel& model,
                                                        const api::Limits& limits) {
  api::RequestFields fields;
  fields.model = request.model();
  if (auto error = api::CheckModel(fields.model, model)) return *error;
  if (request.has_token_ids()) {
    auto ids = IdsInVocabulary(request.token_ids().ids(), "prompt", model);
    if (auto* error = std::get_if<api::ApiError>(&ids)) return *error;
    fields.prompts.emplace_back(api::TokenPrompt{std::move(std::get<std::vector<int32_t>>(ids))});
  } else if (request.has_text()) {
    const bool add_special = !request.has_add_special_tokens() || request.add_special_tokens();
    fields.prompts.emplace_back(api::TextPrompt{request.text(), add_special});
  } else {
    return api::InvalidField("prompt", "prompt is required: text or token_ids");
  }
  fields.echo = request.echo();
  FillSampling(request.sampling(), &fields);
  FillOptions(request.options(), &fields);
  return Finish(std::move(fields), request.ByteSizeLong(), model, limits);
}

api::Parsed<api::Prompt> ToPrompt(const pb::TokenizeRequest& request, const api::ServedModel& model,
                                  const api::Limits& limits) {
  if (auto error = api::CheckModel(request.model(), model)) return *error;
  if (model.tokenizer == nullptr) {
    return api::InvalidField("text", "this model is served without a tokenizer");
  }
  if (request.has_text()) {
    const bool add_special = !request.has_add_special_tokens() || request.add_special_tokens();
    return api::Prompt(api::TextPrompt{request.text(), add_special});
  }
  if (!request.has_conversation()) {
    return api::InvalidField("text", "text or conversation is required");
  }
  if (model.chat_template == nullptr) {
    return api::InvalidField("conversation", "this model has no chat template");
  }
  auto prompt = ToChatPrompt(request.conversation(), limits);
  if (auto* error = std::get_if<api::ApiError>(&prompt)) return *error;
  return api::Prompt(std::move(std::get<api::ChatPrompt>(prompt)));
}

api::Parsed<std::vector<int32_t>> ToTokenIds(const pb::DetokenizeRequest& request,
                                             const api::ServedModel& model) {
  if (auto error = api::CheckModel(request.model(), model)) return *error;
  if (model.tokenizer == nullptr) {
    return api::InvalidField("token_ids", "this model is served without a tokenizer");
  }
  return IdsInVocabulary(request.token_ids(), "token_ids", model);
}

}  // namespace modu::grpc_door
