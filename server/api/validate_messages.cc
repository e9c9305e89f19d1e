// Chat messages: what a template may see of them, and nothing else.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "server/api/json_reader.h"
#include "server/api/request_fields.h"

namespace modu::api {
namespace {

constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                    "assistant", "tool",      "function"};

std::string At(size_t index, const char* field = "") {
  return "messages[" + std::to_string(index) + "]" + (*field ? std::string(".") + field : "");
}

Parsed<std::string> TextOfParts(const Json& parts, size_t index) {
  const auto unsupported = [&](const char* what) {
    return InvalidField("messages", At(index, "content") + what, "unsupported_content");
  };
  std::string text;
  for (const Json& part : parts) {
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || !type->is_string()) {
      return InvalidField("messages",
                          At(index, "content") + ": each part must be an object with a type");
    }
    const std::string& kind = type->get_ref<const std::string&>();
    if (kind == "image_url" || kind == "input_image" || kind == "image") {
      return unsupported(": images not supported");
    }
    if (kind == "input_audio" || kind == "audio_url" || kind == "audio") {
      return unsupported(": audio not supported");
    }
    if (kind == "video_url" || kind == "video") {
      return unsupported(": video not supported");
    }
    if (kind != "text" && kind != "input_text" && kind != "output_text") {
      return unsupported(": parts of this type are not supported, only text");
    }
    const auto value = part.find("text");
    if (value == part.end() || !value->is_string()) {
      return InvalidField("messages",
                          At(index, "content") + ": a text part must have a string text");
    }
    text += value->get_ref<const std::string&>();
  }
  return text;
}

// Earlier calls of the assistant's, as templates want them: arguments as an object.
Parsed<Json> ToolCalls(const Json& calls, size_t index, const Limits& limits) {
  const auto bad = [&](const char* what) {
    return InvalidField("messages", At(index, "tool_calls") + ": " + what);
  };
  if (!calls.is_array() || calls.size() > 128) return bad("must be an array of at most 128 calls");
  Json result = Json::array();
  for (const Json& call : calls) {
    if (!call.is_object()) return bad("each call must be an object");
    const auto function = call.find("function");
    if (function == call.end() || !function->is_object())
      return bad("each call must have a function object");
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) return bad("function.name must be a string");
    Json copy = {{"type", "function"}};
    if (const auto id = call.find("id"); id != call.end()) {
      if (!id->is_string()) return bad("id must be a string");
      copy["id"] = *id;
    }
    Json arguments = Json::object();
    if (const auto given = function->find("arguments"); given != function->end()) {
      if (given->is_object()) {
        arguments = *given;
      } else if (given->is_string()) {
        const std::string& source = given->get_ref<const std::string&>();
        if (!source.empty()) {
          Parsed<Json> parsed = ReadJsonObject(source, limits);
          if (std::holds_alternative<ApiError>(parsed))
            return bad("function.arguments must hold a JSON object");
          arguments = std::move(std::get<Json>(parsed));
        }
      } else {
        return bad("function.arguments must be a string");
      }
    }
    copy["function"] = Json{{"name", *name}, {"arguments", std::move(arguments)}};
    result.push_back(std::move(copy));
  }
  return result;
}

Parsed<Json> OneMessage(const Json& message, size_t index, const Limits& limits) {
  if (!message.is_object()) return InvalidField("messages", At(index) + " must be an object");
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) {
    return InvalidField("messages", At(index, "role") + " must be a string");
  }
  const std::string& name = role->get_ref<const std::string&>();
  if (std::find(kRoles.begin(), kRoles.end(), name) == kRoles.end()) {
    return InvalidField(
        "messages",
        At(index, "role") + " must be system, developer, user, assistant, tool or function");
  }
  Json result = Json::object();
  // OpenAI renamed the role; templates of open models know the older name.
  result["role"] = name == "developer" ? "system" : name;

  const auto calls = message.find("tool_calls");
  const bool has_calls =
      calls != message.end() && !calls->is_null() && !(calls->is_array() && calls->empty());
  const auto content = message.find("content");
  if (content != message.end() && content->is_string()) {
    result["content"] = *content;
  } else if (content != message.end() && content->is_array()) {
    Parsed<std::string> text = TextOfParts(*content, index);
    if (auto* error = std::get_if<ApiError>(&text)) return *error;
    result["content"] = std::move(std::get<std::string>(text));
  } else if (name == "assistant" && has_calls && (content == message.end() || content->is_null())) {
    result["content"] = "";
  } else {
    return InvalidField("messages",
                        At(index, "content") + " must be a string or an array of parts");
  }
  if (has_calls) {
    if (name != "assistant")
      return InvalidField("messages", At(index, "tool_calls") + " belongs to the assistant");
    Parsed<Json> copied = ToolCalls(*calls, index, limits);
    if (auto* error = std::get_if<ApiError>(&copied)) return *error;
    result["tool_calls"] = std::move(std::get<Json>(copied));
  }
  for (const char* field : {"name", "tool_call_id", "reasoning_content", "reasoning"}) {
    const auto value = message.find(field);
    if (value == message.end() || value->is_null()) continue;
    if (!value->is_string())
      return InvalidField("messages", At(index, field) + " must be a string");
    result[field] = *value;
  }
  return result;
}

}  // namespace

Parsed<nlohmann::ordered_json> ValidateMessages(const nlohmann::ordered_json& messages,
                                                const Limits& limits) {
  if (!messages.is_array() || messages.empty()) {
    return InvalidField("messages", "messages must be a non-empty array");
  }
  if (messages.size() > static_cast<size_t>(limits.max_messages)) {
    return InvalidField(
        "messages", "messages must have at most " + std::to_string(limits.max_messages) + " items");
  }
  Json result = Json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    Parsed<Json> message = OneMessage(messages[i], i, limits);
    if (auto* error = std::get_if<ApiError>(&message)) return *error;
    result.push_back(std::move(std::get<Json>(message)));
  }
  return result;
}

bool IsReservedTemplateName(std::string_view name) {
  constexpr std::array<std::string_view, 12> kReserved = {"messages",
                                                          "tools",
                                                          "add_generation_prompt",
                                                          "continue_final_message",
                                                          "bos_token",
                                                          "eos_token",
                                                          "tokenize",
                                                          "documents",
                                                          "unk_token",
                                                          "pad_token",
                                                          "chat_template",
                                                          "conversation"};
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

}  // namespace modu::api
