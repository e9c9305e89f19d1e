#include "server/text/chat_template_source.h"

#include "engine/checkpoint/json_text.h"
#include "nlohmann/json.hpp"

namespace modu::text {
namespace {

using Json = nlohmann::json;

Json ParseObject(const std::string& text) {
  Json parsed = engine::ParseJsonText(text);
  return parsed.is_object() ? parsed : Json::object();
}

std::string TokenOf(const Json& file, const char* key) {
  const auto found = file.find(key);
  if (found == file.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) {
    const auto content = found->find("content");
    if (content != found->end() && content->is_string()) return content->get<std::string>();
  }
  return "";
}

std::string TemplateOf(const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  std::string first;
  if (found->is_array()) {
    for (const Json& entry : *found) {
      if (!entry.is_object()) continue;
      const std::string source = TokenOf(entry, "template");
      if (TokenOf(entry, "name") == "default") return source;
      if (first.empty()) first = source;
    }
  }
  return first;
}

std::string SpellingOf(const engine::TokenizerFiles& files, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < files.tokens.size()
             ? files.tokens[static_cast<size_t>(id)]
             : "";
}

}  // namespace

ChatTemplateSource FindChatTemplate(const engine::TokenizerFiles& files) {
  const Json config = ParseObject(files.tokenizer_config_json);
  const Json map = ParseObject(files.special_tokens_map_json);
  ChatTemplateSource result;
  result.source = files.chat_template.empty() ? TemplateOf(config) : files.chat_template;
  const auto token = [&](const char* key, int32_t id) {
    std::string text = TokenOf(config, key);
    // A null in tokenizer_config.json is an answer: the model has no such token.
    if (text.empty() && !(config.contains(key) && config[key].is_null())) text = TokenOf(map, key);
    return text.empty() ? SpellingOf(files, id) : text;
  };
  result.bos_token = token("bos_token", files.bos_id);
  result.eos_token = token("eos_token", files.eos_id);
  return result;
}

}  // namespace modu::text
