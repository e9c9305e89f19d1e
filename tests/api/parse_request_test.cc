// Rows 30 to 64 and 76 of the table of bad inputs, as far as a body decides them, and every field's
// boundaries.
#include "server/api/parse_request.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/api/fake_model.h"
#include "tests/catch.h"

namespace modu::api {
namespace {

using nlohmann::json;

// Only asked whether it is there.
ServedModel Model() {
  static const char kPlace = 0;
  return testing::FakeModel(std::shared_ptr<const text::ChatTemplate>(
      std::shared_ptr<void>(), reinterpret_cast<const text::ChatTemplate*>(&kPlace)));
}

json Chat() { return {{"messages", json::array({{{"role", "user"}, {"content", "hi"}}})}}; }
json Completion() { return {{"prompt", "hi"}}; }

template <typename T>
ApiError ErrorOf(const Parsed<T>& parsed) {
  return std::holds_alternative<ApiError>(parsed) ? std::get<ApiError>(parsed) : ApiError{200};
}
ApiError ChatError(const std::string& body, const Limits& limits = {}) {
  return ErrorOf(ParseChatRequest(body, Model(), limits));
}
ApiError CompletionError(const std::string& body, const Limits& limits = {}) {
  return ErrorOf(ParseCompletionRequest(body, Model(), limits));
}
GenerationRequest GoodChat(const json& body) {
  auto parsed = ParseChatRequest(body.dump(), Model(), {});
  if (auto* error = std::get_if<ApiError>(&parsed)) FAIL(error->message);
  return std::get<GenerationRequest>(parsed);
}
GenerationRequest GoodCompletion(const json& body) {
  auto parsed = ParseCompletionRequest(body.dump(), Model(), {});
  if (auto* error = std::get_if<ApiError>(&parsed)) FAIL(error->message);
  return std::get<GenerationRequest>(parsed);
}

// A body with one more member, its value as raw JSON text.
std::string With(const json& base, const std::string& member) {
  std::string text = base.dump();
  text.pop_back();
  return text + "," + member + "}";
}

TEST_CASE("row 30: the body must be an object") {
  for (const char* body : {"", "  \n", "null", "[]", "\"x\"", "123", "true", "[{}]"}) {
    INFO(body);
    const ApiError error = ChatError(body);
    CHECK(error.http_status == 400);
    CHECK(error.message == "body must be a JSON object");
  }
}

TEST_CASE("row 31: syntax errors have a byte offset") {
  const std::vector<std::pair<std::string, int>> rows = {
      {"{", 1},           {"{\"a\":1", 6},       {"{\"a\":1} x", 8},
      {"{\"a\":1}{}", 7}, {"\xEF\xBB\xBF{}", 0}, {"{/*c*/}", 1},
      {"{'a':1}", 1},     {"{\"a\":NaN}", 5},    {"{\"a\":01}", 6},
      {"{\"a\":1,}", 7},  {"{\"a\":+1}", 5},     {"{\"a\":Infinity}", 5}};
  for (const auto& [body, offset] : rows) {
    INFO(body);
    const ApiError error = ChatError(body);
    CHECK(error.http_status == 400);
    const std::string expected = "invalid JSON at byte offset " + std::to_string(offset);
    CHECK(error.message.substr(0, expected.size()) == expected);
  }
}

TEST_CASE("a body that ends early is not called one that goes on") {
  CHECK(ChatError("{\"a\":1").message == "invalid JSON at byte offset 6: unexpected end");
  CHECK(ChatError("{\"a\":1} x").message ==
        "invalid JSON at byte offset 8: bytes after the object");
}

TEST_CASE("every truncation of a good body is 400") {
  const std::string body =
      With(Chat(), "\"logit_bias\":{\"5\":1.5},\"stop\":[\"a\",\"b\"],\"n\":2");
  CHECK(ChatError(body).http_status == 200);
  for (size_t length = 0; length < body.size(); ++length) {
    CHECK(ChatError(body.substr(0, length)).http_status == 400);
  }
}

TEST_CASE("row 32: depth is bounded, also in ignored fields") {
  const auto nest = [](size_t depth) {
    return std::string(depth, '[') + "1" + std::string(depth, ']');
  };
  CHECK(ChatError(With(Chat(), "\"zzz\":" + nest(63))).http_status == 200);
  for (const std::string& body :
       {With(Chat(), "\"zzz\":" + nest(64)), With(Chat(), "\"zzz\":" + nest(100'000)),
        std::string(100'000, '['), "{\"a\":" + std::string(100'000, '['),
        With(
            Chat(), "\"x\":" + [] {
              std::string deep;
              for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
              return deep;
            }())}) {
    const ApiError error = ChatError(body);
    CHECK(error.http_status == 400);
    CHECK(error.message.find("nesting deeper than 64") != std::string::npos);
  }
}

TEST_CASE("row 38: a list's own cap is named, whatever the body's caps are") {
  const auto list = [](size_t count, const char* item) {
    std::string text = "[";
    for (size_t i = 0; i < count; ++i) text += std::string(i == 0 ? "" : ",") + item;
    return text + "]";
  };
  const auto check = [](const std::string& body, const char* field, const char* cap) {
    const ApiError error = ChatError(body);
    INFO(field << ": " << error.message);
    CHECK(error.http_status == 400);
    CHECK(error.param == field);
    CHECK(error.message.find(cap) != std::string::npos);
  };
  const char* message = R"({"role":"user","content":"a"})";
  CHECK(ChatError("{\"messages\":" + list(2'048, message) + "}").http_status == 200);
  check("{\"messages\":" + list(2'049, message) + "}", "messages", "2048");
  check("{\"messages\":" + list(10'000, message) + "}", "messages", "2048");
  check("{\"messages\":" + list(1'000'000, "1") + "}", "messages", "2048");
  check(With(Chat(), "\"tools\":" + list(10'000, "{}")), "tools", "128");
  check(With(Chat(), "\"stop\":" + list(10'000, "\"x\"")), "stop", "16");
  check(With(Chat(), "\"stop_token_ids\":" + list(100'000, "1")), "stop_token_ids", "256");
  // The same names deeper down, or beyond a list's end, are not counted.
  CHECK(ChatError(With(Chat(), "\"zzz\":{\"stop\":" + list(300, "1") + "}")).http_status == 200);
  CHECK(ChatError(With(Chat(), "\"zzz\":[{\"a\":1}],\"stop\":" + list(16, "\"x\""))).http_status ==
        200);
}

TEST_CASE("row 33: integers are integers") {
  for (const char* field : {"n", "max_tokens", "max_completion_tokens", "min_tokens", "seed",
                            "top_k", "top_logprobs", "priority"}) {
    for (const char* value :
         {"1.0", "\"1\"", "true", "1e0", "9223372036854775808", "18446744073709551616",
          "-9223372036854775809", "[1]", "{}", "1e400"}) {
      INFO(field << " = " << value);
      const ApiError error =
          ChatError(With(Chat(), std::string("\"logprobs\":true,\"") + field + "\":" + value));
      CHECK(error.http_status == 400);
      CHECK(error.param == field);
      CHECK(error.message.find(field) != std::string::npos);
    }
  }
}

TEST_CASE("a wrong type is told the range, in the words of a value out of range") {
  const auto message = [](const char* member) { return ChatError(With(Chat(), member)).message; };
  CHECK(message(R"("temperature":"hot")") == "temperature must be a number between 0 and 2");
  CHECK(message(R"("temperature":3)") == "temperature must be a number between 0 and 2");
  CHECK(message(R"("top_p":0)") == "top_p must be a number above 0 and at most 1");
  CHECK(message(R"("repetition_penalty":[])") ==
        "repetition_penalty must be a number between 0.01 and 100");
  CHECK(message(R"("n":"2")") == "n must be an integer between 1 and 128");
  CHECK(message(R"("n":0)") == "n must be an integer between 1 and 128");
  CHECK(message(R"("max_tokens":18446744073709551615)") == message(R"("max_tokens":-1)"));
  CHECK(message(R"("top_k":1.5)") == "top_k must be an integer between -1 and 2147483647");
  CHECK(CompletionError(With(Completion(), R"("logprobs":true)")).message ==
        "logprobs must be an integer between 0 and 20");
}

TEST_CASE("row 31: nothing may follow the object, behind a NUL either") {
  for (const std::string& after :
       {std::string("\0", 1), std::string("\0{{", 3), std::string("x")}) {
    CHECK(ChatError(With(Chat(), "\"n\":1") + after).http_status == 400);
  }
  CHECK(ChatError(std::string("\0", 1) + With(Chat(), "\"n\":1")).http_status == 400);
  CHECK(ChatError(With(Chat(), "\"n\":1") + " \n").http_status == 200);
}

TEST_CASE("row 34: duplicate keys") {
  CHECK(ChatError(With(Chat(), "\"n\":1,\"n\":9999")).param == "n");
  CHECK(ChatError(With(Chat(), "\"zzz\":{\"a\":1,\"a\":1}")).param == "zzz");
  CHECK(ChatError(With(Chat(), "\"a\":{\"a\":1},\"b\":{\"a\":1}")).http_status == 200);
}

TEST_CASE("row 35: encodings") {
  const auto body = [](const std::string& content) {
    return "{\"messages\":[{\"role\":\"user\",\"content\":\"" + content + "\"}]}";
  };
  for (const char* bad :
       {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "\xe2\x82",
        "\\ud800", "\\udc00", "\\ud800x", "\\ud83d\\ud83d", "\\u12", "\\x41", "a\nb", "\x01"}) {
    INFO(bad);
    CHECK(ChatError(body(bad)).http_status == 400);
  }
  CHECK(ChatError(body("\\u0000")).http_status == 200);
  CHECK(ChatError(body("\\ud83d\\ude00 \xed\x95\x9c")).http_status == 200);
}

TEST_CASE("row 36 and 51: unknown fields are listed and go nowhere") {
  const GenerationRequest request = GoodChat(json::parse(
      With(Chat(), "\"n_discard\":-1,\"n_keep\":-5,\"id_slot\":7,\"what\\nis\":{\"x\":[1]}")));
  CHECK(request.ignored_fields ==
        std::vector<std::string>{"id_slot", "n_discard", "n_keep", "what\nis"});
  std::string many;
  for (int i = 0; i < 100; ++i) many += (i ? ",\"f" : "\"f") + std::to_string(i) + "\":1";
  CHECK(GoodChat(json::parse(With(Chat(), many))).ignored_fields.size() == 16);
}

TEST_CASE("row 38: counts are capped by name") {
  json body = Chat();
  for (int i = 0; i < 2048; ++i) body["messages"].push_back(body["messages"][0]);
  ApiError error = ChatError(body.dump());
  CHECK(error.param == "messages");
  CHECK(error.message.find("2048") != std::string::npos);
  json stops = json::array();
  for (int i = 0; i < 10'000; ++i) stops.push_back("x");
  error = ChatError(With(Chat(), "\"stop\":" + stops.dump()));
  CHECK(error.param == "stop");
  CHECK(error.message.find("16") != std::string::npos);
  error = ChatError(With(Chat(), "\"tool_choice\":\"none\",\"tools\":" + stops.dump()));
  CHECK(error.param == "tools");
  std::string items(2 * 200'001 - 1, ',');
  for (size_t i = 0; i < items.size(); i += 2) items[i] = '1';
  error = ChatError(With(Chat(), "\"zzz\":[" + items + "]"));
  CHECK(error.http_status == 400);
  CHECK(error.message.find("200000") != std::string::npos);
  std::string keys;
  for (int i = 0; i < 10'001; ++i) keys += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":1";
  error = ChatError(With(Chat(), "\"zzz\":{" + keys + "}"));
  CHECK(error.message.find("10000") != std::string::npos);
}

TEST_CASE(
    "rows 39 to 50, 54, 55, 76 and what is known but not supported: 400 with the field's name") {
  struct Row {
    const char* param;
    std::vector<const char*> values;
  };
  const std::vector<Row> rows = {
      {"n", {"0", "-1", "129", "2147483648", "9223372036854775807"}},
      {"temperature", {"-0.1", "2.1", "1e308", "\"1\"", "true", "[]", "-1e-300", "2.0000001"}},
      {"top_p", {"0", "-1", "1.5", "\"x\"", "1.0000001", "-1e-9"}},
      {"min_p", {"-0.1", "1.5", "false"}},
      {"presence_penalty", {"2.1", "-2.1", "1e300"}},
      {"frequency_penalty", {"2.1", "-2.1", "\"\""}},
      {"repetition_penalty", {"0", "-1", "1e30", "1e-30"}},
      {"seed", {"100000000000000000000", "-100000000000000000000", "1.5", "\"100\""}},
      {"max_tokens", {"0", "-1", "2147483648", "1025"}},
      {"max_completion_tokens", {"0", "-1", "1025"}},
      {"min_tokens", {"-1", "1025"}},
      {"top_logprobs", {"1"}},
      {"stop", {"\"\"", "[\"\"]", "[1]", "1", "{}", "[\"a\",null]"}},
      {"stream_options", {"{}", "{\"include_usage\":true}", "[]"}},
      {"stream", {"1", "\"true\""}},
      {"logit_bias",
       {"{\"AI\":1}", "{\"-1\":1}", "{\"999999\":1}", "{\"1e3\":1}", "{\"01\":1}", "{\"\":1}",
        "{\" 1\":1}", "{\"1\":101}", "{\"1\":-101}", "{\"1\":\"1\"}", "{\"1\":null}", "{\"300\":1}",
        "{\"99999999999\":1}", "[]", "{\"1\":true}"}},
      {"stop_token_ids", {"[300]", "[-1]", "[1.5]", "[\"1\"]", "1", "[2147483648]", "[[1]]"}},
      {"model", {"1", "{}"}},
      {"user", {"1"}},
      {"cache_salt", {"\"\"", "1"}},
      {"request_id", {"\"a b\"", "\"a\\nb\"", "7"}},
      {"priority", {"2147483648", "-2147483649"}},
      {"top_k", {"-2", "2147483648"}},
      {"chat_template", {"\"{{ 1 }}\""}},
      {"tools", {"[{\"type\":\"function\"}]", "{}"}},
      {"tool_choice", {"\"auto\"", "\"required\"", "{\"function\":{\"name\":\"x\"}}"}},
      {"response_format",
       {"{\"type\":\"json_object\"}", "{\"type\":\"json_schema\"}", "{}", "\"text\"",
        "{\"type\":1}"}},
      {"best_of", {"2"}},
      {"use_beam_search", {"true", "1"}},
      {"echo", {"true"}},
      {"prompt_logprobs", {"1"}},
      {"structured_outputs", {"{}"}},
      {"guided_json", {"{}"}},
      {"guided_regex", {"\"a\""}},
      {"guided_choice", {"[\"a\"]"}},
      {"guided_grammar", {"\"a\""}},
      {"grammar", {"\"a\""}},
      {"lora_path", {"\"a\""}},
      {"audio", {"{}"}},
      {"modalities", {"[\"text\",\"audio\"]", "[\"audio\"]"}},
      {"prompt_embeds", {"\"\""}},
      {"truncate_prompt_tokens", {"5"}},
      {"logprob_token_ids", {"[1]"}},
      {"allowed_token_ids", {"[1]"}},
      {"bad_words", {"[\"a\"]"}},
      {"length_penalty", {"0.5"}},
      {"continue_final_message", {"true", "1"}},
      {"reasoning_effort", {"\"huge\"", "1"}},
      {"chat_template_kwargs",
       {"[]", "{\"messages\":[]}", "{\"tokenize\":true}", "{\"add_generation_prompt\":false}",
        "{\"bos_token\":\"x\"}"}},
      {"documents", {"{}", "[1]"}},
      {"logprobs", {"1", "\"true\""}},
      {"ignore_eos", {"1"}},
      {"functions", {"[{}]"}},
      {"kv_transfer_params", {"{}"}},
  };
  for (const Row& row : rows) {
    for (const char* value : row.values) {
      INFO(row.param << " = " << value);
      const ApiError error = ChatError(With(Chat(), std::string("\"") + row.param + "\":" + value));
      CHECK(error.http_status == 400);
      CHECK(error.type == "invalid_request_error");
      CHECK(error.param == row.param);
      CHECK(error.message.find(row.param) != std::string::npos);
    }
  }
}

TEST_CASE("null is as if the field were not there") {
  for (const char* field :
       {"n", "temperature", "tools", "tool_choice", "response_format", "stop", "stream_options",
        "guided_json", "seed", "logit_bias", "max_tokens", "chat_template", "audio", "model",
        "stop_token_ids", "best_of", "suffix"}) {
    INFO(field);
    CHECK(ChatError(With(Chat(), std::string("\"") + field + "\":null")).http_status == 200);
  }
}

TEST_CASE("what is allowed of the unsupported") {
  for (const char* member :
       {"\"tools\":[],\"parallel_tool_calls\":false",
        "\"tools\":[{\"type\":\"function\"}],\"tool_choice\":\"none\"", "\"tool_choice\":\"none\"",
        "\"response_format\":{\"type\":\"text\"}", "\"n\":2,\"best_of\":2",
        "\"use_beam_search\":false", "\"modalities\":[\"text\"]", "\"echo\":false",
        "\"bad_words\":[]", "\"length_penalty\":1.0", "\"store\":false",
        "\"metadata\":{\"a\":\"b\"}", "\"n\":3,\"temperature\":0"}) {
    INFO(member);
    CHECK(ChatError(With(Chat(), member)).http_status == 200);
  }
}

// Row 52: for every number its interval, tried at both ends and just outside.
TEST_CASE("row 52: closed intervals, generated") {
  struct Integer {
    const char* name;
    int64_t low, high;
    const char* also;  // members that the field needs
  };
  const int64_t int_max = std::numeric_limits<int32_t>::max(),
                int_min = std::numeric_limits<int32_t>::min();
  const std::vector<Integer> integers = {{"n", 1, 128, ""},
                                         {"max_tokens", 1, 1024, ""},
                                         {"max_completion_tokens", 1, 1024, ""},
                                         {"min_tokens", 0, 1024, ""},
                                         {"min_tokens", 0, 7, "\"max_tokens\":7,"},
                                         {"top_logprobs", 0, 20, "\"logprobs\":true,"},
                                         {"top_k", -1, int_max, ""},
                                         {"priority", int_min, int_max, ""}};
  for (const Integer& row : integers) {
    const auto status = [&](int64_t value) {
      return ChatError(
          With(Chat(), std::string(row.also) + "\"" + row.name + "\":" + std::to_string(value)));
    };
    INFO(row.name);
    CHECK(status(row.low).http_status == 200);
    CHECK(status(row.high).http_status == 200);
    for (int64_t outside : {row.low - 1, row.high + 1}) {
      CHECK(status(outside).http_status == 400);
      CHECK(status(outside).param == row.name);
    }
  }
  struct Float {
    const char* name;
    double low, high;
  };
  const std::vector<Float> floats = {
      {"temperature", 0, 2},        {"min_p", 0, 1},
      {"top_p", 5e-324, 1},         {"presence_penalty", -2, 2},
      {"frequency_penalty", -2, 2}, {"repetition_penalty", 0.01, 100}};
  for (const Float& row : floats) {
    const auto status = [&](double value) {
      json body = Chat();
      body[row.name] = value;
      return ChatError(body.dump()).http_status;
    };
    INFO(row.name);
    CHECK(status(row.low) == 200);
    CHECK(status(row.high) == 200);
    CHECK(status(std::nextafter(row.low, -1e300)) == 400);
    CHECK(status(std::nextafter(row.high, 1e300)) == 400);
  }
  const auto completion = [](const std::string& member) {
    return CompletionError(With(Completion(), member)).http_status;
  };
  CHECK(completion("\"max_tokens\":0") == 200);
  CHECK(completion("\"max_tokens\":-1") == 400);
  CHECK(completion("\"max_tokens\":1024") == 200);
  CHECK(completion("\"max_tokens\":1025") == 400);
  CHECK(completion("\"logprobs\":0") == 200);
  CHECK(completion("\"logprobs\":20") == 200);
  CHECK(completion("\"logprobs\":21") == 400);
  CHECK(completion("\"logprobs\":-1") == 400);
  CHECK(completion("\"logprobs\":true") == 400);
  // Lists: as many as the limit, and one more.
  const auto list = [](int count, const std::string& item) {
    std::string text = "[";
    for (int i = 0; i < count; ++i) text += (i ? "," : "") + item;
    return text + "]";
  };
  CHECK(completion("\"stop\":" + list(16, "\"a\"")) == 200);
  CHECK(completion("\"stop\":" + list(17, "\"a\"")) == 400);
  CHECK(completion("\"stop\":\"" + std::string(1024, 'x') + "\"") == 200);
  CHECK(completion("\"stop\":\"" + std::string(1025, 'x') + "\"") == 400);
  CHECK(completion("\"stop_token_ids\":" + list(256, "299")) == 200);
  CHECK(completion("\"stop_token_ids\":" + list(257, "1")) == 400);
  CHECK(completion("\"cache_salt\":\"" + std::string(128, 'x') + "\"") == 200);
  CHECK(completion("\"cache_salt\":\"" + std::string(129, 'x') + "\"") == 400);
}

TEST_CASE("row 52 under an operator's cap") {
  Limits limits;
  limits.max_output_tokens = 100;
  CHECK(ChatError(With(Chat(), "\"max_tokens\":100"), limits).http_status == 200);
  CHECK(ChatError(With(Chat(), "\"max_tokens\":101"), limits).http_status == 400);
  CHECK(ChatError(With(Chat(), "\"min_tokens\":101"), limits).http_status == 400);
  auto parsed = ParseChatRequest(Chat().dump(), Model(), limits);
  CHECK(std::get<GenerationRequest>(parsed).sampling.max_tokens == 100);
}

TEST_CASE("row 53: token ids") {
  const std::vector<std::pair<const char*, int>> rows = {
      {"[-1]", 400},      {"[300]", 400},       {"[2147483648]", 400},
      {"[1.5]", 400},     {"[[1],[2.5]]", 400}, {"[[[1]]]", 400},
      {"[1,\"a\"]", 400}, {"[\"a\",1]", 400},   {"[1,[2]]", 400},
      {"[]", 400},        {"[[]]", 400},        {"{}", 400},
      {"true", 400},      {"7", 400},           {"[true]", 400},
      {"[0,299]", 200},   {"[[0],[1]]", 200},   {"[\"a\",\"b\"]", 200},
      {"\"a\"", 200},     {"\"\"", 200},        {"[null]", 400}};
  for (const auto& [prompt, status] : rows) {
    INFO(prompt);
    const ApiError error = CompletionError(std::string("{\"prompt\":") + prompt + "}");
    CHECK(error.http_status == status);
    if (status == 400) CHECK(error.param == "prompt");
  }
  CHECK(CompletionError("{\"prompt\":[300]}").message == "prompt: token id 300 not in 0..299");
  json ids = json::array();
  for (int i = 0; i < 1024; ++i) ids.push_back(1);
  CHECK(CompletionError(json{{"prompt", ids}}.dump()).http_status == 200);
  ids.push_back(1);
  CHECK(CompletionError(json{{"prompt", ids}}.dump()).code == "context_length_exceeded");
  CHECK(CompletionError("{}").param == "prompt");
  CHECK(CompletionError("{\"prompt\":null}").param == "prompt");
  json many = json::array();
  for (int i = 0; i < 128; ++i) many.push_back("p");
  CHECK(CompletionError(json{{"prompt", many}}.dump()).http_status == 200);
  CHECK(CompletionError(json{{"prompt", many}, {"n", 2}}.dump()).param == "n");
  many.push_back("p");
  CHECK(CompletionError(json{{"prompt", many}}.dump()).param == "prompt");
}

TEST_CASE("rows 62 to 64: messages") {
  const std::vector<std::pair<const char*, int>> rows = {
      {"[]", 400},
      {"null", 400},
      {"{}", 400},
      {"[1]", 400},
      {"[{}]", 400},
      {R"([{"role":"king","content":"x"}])", 400},
      {R"([{"role":5,"content":"x"}])", 400},
      {R"([{"content":"x"}])", 400},
      {R"([{"role":"user"}])", 400},
      {R"([{"role":"user","content":null}])", 400},
      {R"([{"role":"assistant","content":null}])", 400},
      {R"([{"role":"user","content":5}])", 400},
      {R"([{"role":"user","content":{}}])", 400},
      {R"([{"role":"user","content":["x"]}])", 400},
      {R"([{"role":"user","content":[{"type":"what"}]}])", 400},
      {R"([{"role":"user","content":[{"type":"text"}]}])", 400},
      {R"([{"role":"user","content":[{"type":"text","text":5}]}])", 400},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}])",
       400},
      {R"([{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}])", 400},
      {R"([{"role":"user","content":"x","name":5}])", 400},
      {R"([{"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]}])", 400},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":5}}]}])", 400},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"["}}]}])", 400},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}])",
       200},
      {R"([{"role":"user","content":""}])", 200},
      {R"([{"role":"user","content":[]}])", 200},
      {R"j([{"role":"user","content":"![x](http://127.0.0.1/)"}])j", 200},
      {R"([{"role":"tool","content":"x","tool_call_id":"c"}])", 200},
  };
  for (const auto& [messages, status] : rows) {
    INFO(messages);
    const ApiError error = ChatError(std::string("{\"messages\":") + messages + "}");
    CHECK(error.http_status == status);
    if (status == 400) CHECK(error.param == "messages");
  }
  CHECK(ChatError("{}").param == "messages");
  CHECK(ChatError(std::string("{\"messages\":") + rows[17].first + "}")
            .message.find("images not supported") != std::string::npos);
}

TEST_CASE("messages reach the template cleaned") {
  const json body = json::parse(R"({"messages":[
    {"role":"developer","content":"be brief","evil":{"x":1}},
    {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"kim"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"b\":1,\"a\":2}"}}]}
  ],"chat_template_kwargs":{"enable_thinking":false},"reasoning_effort":"low"})");
  const GenerationRequest request = GoodChat(body);
  const auto& prompt = std::get<ChatPrompt>(request.prompts.at(0));
  CHECK(prompt.messages.dump() ==
        R"([{"role":"system","content":"be brief"},{"role":"user","content":"ab","name":"kim"},)"
        R"({"role":"assistant","content":"","tool_calls":[{"type":"function","id":"1",)"
        R"("function":{"name":"f","arguments":{"b":1,"a":2}}}]}])");
  CHECK(prompt.template_kwargs.dump() == R"({"enable_thinking":false,"reasoning_effort":"low"})");
}

TEST_CASE("defaults: the request's, then the model's, then OpenAI's") {
  GenerationRequest request = GoodChat(Chat());
  CHECK(request.sampling.temperature == 1.0f);
  CHECK(request.sampling.max_tokens == -1);
  CHECK(request.sampling.top_logprobs == -1);
  CHECK_FALSE(request.has_seed);
  CHECK(GoodCompletion(Completion()).sampling.max_tokens == 16);
  ServedModel model = Model();
  model.defaults = {0.6f, 0.9f, 0.05f, 1.1f, 20, 77};
  request = std::get<GenerationRequest>(ParseChatRequest(Chat().dump(), model, {}));
  CHECK(request.sampling.temperature == 0.6f);
  CHECK(request.sampling.top_p == 0.9f);
  CHECK(request.sampling.min_p == 0.05f);
  CHECK(request.sampling.repetition_penalty == 1.1f);
  CHECK(request.sampling.top_k == 20);
  CHECK(request.sampling.max_tokens == 77);
  CHECK_FALSE(request.has_max_tokens);
  const std::string body =
      With(Chat(),
           "\"temperature\":0,\"top_p\":1,\"min_p\":0,\"repetition_penalty\":1,\"top_k\":-1,"
           "\"max_tokens\":5,\"seed\":-1");
  request = std::get<GenerationRequest>(ParseChatRequest(body, model, {}));
  CHECK(request.sampling.temperature == 0.0f);
  CHECK(request.sampling.top_k == 0);
  CHECK(request.sampling.max_tokens == 5);
  CHECK(request.has_max_tokens);
  CHECK(request.has_seed);
  CHECK(request.sampling.seed == std::numeric_limits<uint64_t>::max());
}

TEST_CASE("fields arrive where they belong") {
  const GenerationRequest chat = GoodChat(json::parse(With(
      Chat(),
      R"("model":"tiny-alias","n":3,"logprobs":true,"top_logprobs":4,"stop":"END","stop_token_ids":[7],
      "logit_bias":{"5":-100},"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true},
      "include_stop_str_in_output":true,"ignore_eos":true,"min_tokens":2,"max_completion_tokens":9,"max_tokens":3,
      "return_token_ids":true,"skip_special_tokens":false,"priority":-4,"cache_salt":"s","user":"u","request_id":"r")")));
  CHECK(chat.n == 3);
  CHECK(chat.sampling.top_logprobs == 4);
  CHECK(chat.sampling.prompt_logprobs == -1);
  CHECK(chat.stop == std::vector<std::string>{"END"});
  CHECK(chat.sampling.stop_token_ids == std::vector<int32_t>{7});
  CHECK(chat.sampling.logit_bias == std::vector<std::pair<int32_t, float>>{{5, -100.0f}});
  CHECK((chat.stream && chat.include_usage && chat.continuous_usage &&
         chat.include_stop_str_in_output));
  CHECK((chat.sampling.ignore_eos && chat.return_token_ids && !chat.skip_special_tokens));
  CHECK(chat.sampling.min_tokens == 2);
  CHECK(chat.sampling.max_tokens == 9);
  CHECK(chat.priority == -4);
  CHECK(chat.cache_salt == "s");
  CHECK(chat.request_id == "r");
  const GenerationRequest scored =
      GoodCompletion({{"prompt", {1, 2}}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 0}});
  CHECK(scored.sampling.prompt_logprobs == 2);
  CHECK(scored.sampling.max_tokens == 0);
  CHECK(std::get<TokenPrompt>(scored.prompts[0]).token_ids == std::vector<int32_t>{1, 2});
}

TEST_CASE("an unknown model is 404") {
  const ApiError error = ChatError(With(Chat(), "\"model\":\"gpt-9\\n\""));
  CHECK(error.http_status == 404);
  CHECK(error.code == "model_not_found");
  CHECK(error.message == "the model does not exist; served here: tiny, tiny-alias");
}

TEST_CASE("tokenize, detokenize and render bodies") {
  const auto tokenize = [](const char* body) { return ParseTokenizeRequest(body, Model(), {}); };
  CHECK(std::get<TextPrompt>(
            std::get<TokenizeRequest>(tokenize(R"({"prompt":"x","add_special_tokens":false})"))
                .prompt)
            .add_special_tokens == false);
  CHECK(std::get<TokenizeRequest>(tokenize(R"({"prompt":"x","return_token_strs":true})"))
            .return_token_strs);
  CHECK(std::holds_alternative<ChatPrompt>(
      std::get<TokenizeRequest>(tokenize(R"({"messages":[{"role":"user","content":"x"}]})"))
          .prompt));
  for (const char* bad : {"{}", R"({"prompt":5})", R"({"prompt":["a"]})", R"({"messages":[]})",
                          R"({"prompt":"x","messages":[{"role":"user","content":"x"}]})", "[]",
                          R"({"prompt":"x","return_token_strs":1})"}) {
    INFO(bad);
    CHECK(ErrorOf(tokenize(bad)).http_status == 400);
  }
  const auto detokenize = [](const char* body) {
    return ParseDetokenizeRequest(body, Model(), {});
  };
  CHECK(std::get<DetokenizeRequest>(detokenize(R"({"tokens":[1,2]})")).token_ids ==
        std::vector<int32_t>{1, 2});
  CHECK(std::get<DetokenizeRequest>(detokenize(R"({"tokens":[]})")).token_ids.empty());
  for (const char* bad : {"{}", R"({"tokens":"x"})", R"({"tokens":[300]})", R"({"tokens":[-1]})",
                          R"({"tokens":[1.0]})"}) {
    INFO(bad);
    CHECK(ErrorOf(detokenize(bad)).param == "tokens");
  }
  CHECK(ErrorOf(ParseRenderRequest(R"({"messages":5})", Model(), {})).param == "messages");
  CHECK(std::holds_alternative<ChatPrompt>(ParseRenderRequest(Chat().dump(), Model(), {})));
}

TEST_CASE("a model without tokenizer takes token ids only, one without template no chat") {
  ServedModel model = testing::FakeModel();
  CHECK(ErrorOf(ParseChatRequest(Chat().dump(), model, {})).http_status == 400);
  CHECK(ErrorOf(ParseCompletionRequest(Completion().dump(), model, {})).http_status == 200);
  model.tokenizer = nullptr;
  CHECK(ErrorOf(ParseCompletionRequest(Completion().dump(), model, {})).http_status == 400);
  CHECK(ErrorOf(ParseCompletionRequest(R"({"prompt":[1],"stop":"x"})", model, {})).param == "stop");
  CHECK(ErrorOf(ParseCompletionRequest(R"({"prompt":[1]})", model, {})).http_status == 200);
}

}  // namespace
}  // namespace modu::api
