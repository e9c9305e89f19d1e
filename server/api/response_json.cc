#include "server/api/response_json.h"

#include <utility>

#include "server/api/json_text.h"

namespace modu::api {
namespace {

void AppendModel(const ServedModel& model, const std::string& name, std::string* out) {
  *out += "{\"id\":";
  AppendJsonString(name, out);
  *out += ",\"object\":\"model\",\"created\":";
  AppendNumber(model.created_unix_s, out);
  *out += ",\"owned_by\":\"modu\",\"root\":";
  AppendJsonString(model.names.empty() ? name : model.names.front(), out);
  *out += ",\"parent\":null,\"max_model_len\":";
  AppendNumber(model.max_model_len, out);
  *out += '}';
}

}  // namespace

std::string ErrorJson(const ApiError& error) {
  std::string out = "{\"error\":{\"message\":";
  AppendJsonString(error.message, &out);
  out += ",\"type\":";
  AppendJsonString(error.type, &out);
  for (const auto& [name, value] :
       {std::pair{"param", &error.param}, std::pair{"code", &error.code}}) {
    out += ",\"";
    out += name;
    out += "\":";
    if (value->empty()) {
      out += "null";
    } else {
      AppendJsonString(*value, &out);
    }
  }
  out += "}}";
  return out;
}

std::string ModelListJson(const ServedModel& model) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < model.names.size(); ++i) {
    if (i) out += ',';
    AppendModel(model, model.names[i], &out);
  }
  out += "]}";
  return out;
}

std::string ModelJson(const ServedModel& model, const std::string& name) {
  std::string out;
  AppendModel(model, name, &out);
  return out;
}

std::string TokenizeJson(const std::vector<int32_t>& ids, const ServedModel& model,
                         bool with_strings) {
  std::string out = "{\"count\":";
  AppendNumber(static_cast<int64_t>(ids.size()), &out);
  out += ",\"max_model_len\":";
  AppendNumber(model.max_model_len, &out);
  out += ",\"tokens\":";
  AppendIds(ids, &out);
  out += ",\"token_strs\":";
  if (!with_strings || model.tokenizer == nullptr) {
    out += "null";
  } else {
    out += '[';
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i) out += ',';
      AppendJsonString(model.tokenizer->TokenSpelling(ids[i]), &out);
    }
    out += ']';
  }
  out += '}';
  return out;
}

std::string DetokenizeJson(std::string_view text) {
  std::string out = "{\"prompt\":";
  AppendJsonString(text, &out);
  out += '}';
  return out;
}

std::string RenderJson(std::string_view text, const std::vector<int32_t>& ids,
                       const ServedModel& model) {
  std::string out = "{\"prompt\":";
  AppendJsonString(text, &out);
  out += ",\"count\":";
  AppendNumber(static_cast<int64_t>(ids.size()), &out);
  out += ",\"max_model_len\":";
  AppendNumber(model.max_model_len, &out);
  out += ",\"token_ids\":";
  AppendIds(ids, &out);
  out += '}';
  return out;
}

}  // namespace modu::api
