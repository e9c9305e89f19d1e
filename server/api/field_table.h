// JSON members to RequestFields: one table of fields by name and type. What a member's type is is
// checked here, what range it is in by Validate. Pure functions.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/json_reader.h"
#include "server/api/request_fields.h"

namespace modu::api {

enum class Door { kChat, kCompletions };

struct FieldSink {
  RequestFields fields;
  Json template_kwargs = Json::object();
  const Json* messages = nullptr;
  const Json* prompt = nullptr;
  bool add_generation_prompt = true, continue_final_message = false;
  std::optional<bool> add_special_tokens;
  bool has_tools = false;
  std::string tool_choice;
  std::vector<std::string> ignored;
};

/// Reads every member of `body` but the null ones. Errors name the field and what it must be.
std::optional<ApiError> ReadFields(const Json& body, Door door, const Limits& limits,
                                   FieldSink* sink);

std::optional<ApiError> ReadInteger(const char* name, const Json& value, int64_t* out);
std::optional<ApiError> ReadBool(const char* name, const Json& value, bool* out);
std::optional<ApiError> ReadString(const char* name, const Json& value, std::string* out);

}  // namespace modu::api
