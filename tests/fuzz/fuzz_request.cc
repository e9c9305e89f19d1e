// Request bodies: whatever the bytes, every parser gives a request that is in range or an error
// that is well formed, and the error's JSON is JSON. The oracle for ranges is written here a second
// time.
#include <cmath>
#include <variant>

#include "kernels/check.h"
#include "nlohmann/json.hpp"
#include "server/api/parse_request.h"
#include "server/api/response_json.h"
#include "tests/api/fake_model.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

namespace {

const api::ServedModel& Model() {
  static const auto* model = [] {
    auto parsed = text::ChatTemplate::Parse(testing::kChatMl);
    MODU_CHECK(parsed.ok());
    return new api::ServedModel(testing::FakeModel(std::move(*parsed)));
  }();
  return *model;
}

void CheckError(const api::ApiError& error) {
  MODU_CHECK(error.http_status >= 400 && error.http_status < 500);
  MODU_CHECK(!error.message.empty() && !error.type.empty());
  const auto body = nlohmann::json::parse(api::ErrorJson(error), nullptr, false);
  MODU_CHECK(!body.is_discarded() && body.at("error").contains("message"));
}

void CheckRequest(const api::GenerationRequest& request) {
  const engine::SamplingParams& s = request.sampling;
  MODU_CHECK(s.temperature >= 0 && s.temperature <= 2);
  MODU_CHECK(s.top_p > 0 && s.top_p <= 1 && s.min_p >= 0 && s.min_p <= 1);
  MODU_CHECK(s.top_k >= 0 && s.top_k < Model().vocab_size);
  MODU_CHECK(s.repetition_penalty > 0 && std::isfinite(s.repetition_penalty) &&
             std::isfinite(1 / s.repetition_penalty));
  MODU_CHECK(std::fabs(s.presence_penalty) <= 2 && std::fabs(s.frequency_penalty) <= 2);
  MODU_CHECK(s.max_tokens >= -1 && s.max_tokens <= Model().max_model_len);
  MODU_CHECK(s.min_tokens >= 0 && (s.max_tokens < 0 || s.min_tokens <= s.max_tokens));
  MODU_CHECK(s.top_logprobs >= -1 && s.top_logprobs <= 20 && s.prompt_logprobs >= -1 &&
             s.prompt_logprobs <= 20);
  for (const auto& [id, bias] : s.logit_bias) {
    MODU_CHECK(id >= 0 && id < Model().vocab_size && std::fabs(bias) <= 100);
  }
  for (int32_t id : s.stop_token_ids) MODU_CHECK(id >= 0 && id < Model().vocab_size);
  MODU_CHECK(request.n >= 1 && request.n <= 128 && !request.prompts.empty());
  MODU_CHECK(request.prompts.size() * static_cast<size_t>(request.n) <= 128);
  MODU_CHECK(request.stop.size() <= 16 && request.ignored_fields.size() <= 16);
  for (const api::Prompt& prompt : request.prompts) {
    if (const auto* tokens = std::get_if<api::TokenPrompt>(&prompt)) {
      MODU_CHECK(!tokens->token_ids.empty());
      for (int32_t id : tokens->token_ids) MODU_CHECK(id >= 0 && id < Model().vocab_size);
    } else if (const auto* chat = std::get_if<api::ChatPrompt>(&prompt)) {
      MODU_CHECK(chat->messages.is_array() && !chat->messages.empty());
      for (const auto& message : chat->messages) {
        MODU_CHECK(message.at("role").is_string() && message.at("content").is_string());
      }
    }
  }
}

template <typename T>
const T* Good(const api::Parsed<T>& parsed) {
  if (const auto* error = std::get_if<api::ApiError>(&parsed)) {
    CheckError(*error);
    return nullptr;
  }
  return &std::get<T>(parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  static const api::Limits limits;
  const auto chat = api::ParseChatRequest(body, Model(), limits);
  if (const auto* request = Good(chat)) CheckRequest(*request);
  const auto completion = api::ParseCompletionRequest(body, Model(), limits);
  if (const auto* request = Good(completion)) CheckRequest(*request);
  (void)Good(api::ParseTokenizeRequest(body, Model(), limits));
  (void)Good(api::ParseDetokenizeRequest(body, Model(), limits));
  (void)Good(api::ParseRenderRequest(body, Model(), limits));
  std::string quoted;
  api::AppendJsonString(body, &quoted);
  MODU_CHECK(!nlohmann::json::parse(quoted, nullptr, false).is_discarded());
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"messages":[{"role":"user","content":"hi"}]})",
      R"({"model":"tiny","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"\u00e9\ud83d\ude00"}]}],"temperature":0.7,"top_p":0.9,"top_k":40,"min_p":0.05,"n":2,"seed":-1,"stop":["a","b"],"stop_token_ids":[1,299],"logit_bias":{"5":-100,"7":1.5},"logprobs":true,"top_logprobs":3,"max_completion_tokens":16,"min_tokens":2,"stream":true,"stream_options":{"include_usage":true}})",
      R"({"prompt":[[1,2],[3]],"echo":true,"logprobs":2,"max_tokens":0,"presence_penalty":-2,"frequency_penalty":2,"repetition_penalty":1.1})",
      R"({"prompt":["a","b"],"suffix":null,"user":"u","zzz":{"deep":[[[[{}]]]]}})",
      R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}}]}],"tool_choice":"none","tools":[]})",
      R"({"tokens":[1,2,3]})",
      R"({"prompt":1e400})",
      "\xEF\xBB\xBF{}",
      "",
  };
}
