#include "server/api/response_json.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/api/fake_model.h"
#include "tests/api/merged_stream.h"
#include "tests/catch.h"

namespace modu::api {
namespace {

using nlohmann::json;

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(text, &out);
  return out;
}

TEST_CASE("strings: what nlohmann writes, for valid text and for bytes that are not") {
  std::mt19937 random(3);
  const std::vector<std::string> pieces = {"a",
                                           "\"",
                                           "\\",
                                           "\n",
                                           "\r",
                                           "\t",
                                           "\x01",
                                           "\x1f",
                                           "\x7f",
                                           "é",
                                           "한",
                                           "😀",
                                           "\xff",
                                           "\xc0\x80",
                                           "\xed\xa0\x80",
                                           "\xf0\x9f\x98",
                                           "\xe2\x82",
                                           "\x80",
                                           "/",
                                           std::string(1, '\0'),
                                           "\xf4\x90\x80\x80",
                                           "\xc2",
                                           "\xe0\x80"};
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (unsigned k = random() % 8; k > 0; --k) text += pieces[random() % pieces.size()];
    const std::string ours = Quoted(text);
    const json back = json::parse(ours);  // throws on anything that is not JSON in UTF-8
    // nlohmann's own replacement is the oracle: one U+FFFD for each maximal ill-formed part.
    CHECK(back == json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace)));
  }
}

std::vector<json> Events(const std::string& stream, bool* done) {
  std::vector<json> events;
  *done = false;
  for (size_t at = 0; at < stream.size();) {
    REQUIRE(stream.compare(at, 6, "data: ") == 0);
    const size_t end = stream.find("\n\n", at);
    REQUIRE(end != std::string::npos);
    const std::string data = stream.substr(at + 6, end - at - 6);
    at = end + 2;
    if (data == "[DONE]") {
      *done = true;
      CHECK(at == stream.size());
    } else {
      events.push_back(json::parse(data));
    }
  }
  return events;
}

GenerationRequest Request(int n = 1, bool logprobs = false) {
  GenerationRequest request;
  request.prompts.emplace_back(TextPrompt{"p", true});
  request.n = n;
  request.sampling.top_logprobs = logprobs ? 1 : -1;
  request.return_token_ids = true;
  return request;
}

TokenLogprobs Logprobs(const std::string& bytes, float value) {
  return {{7, bytes, value},
          {{7, bytes, value}, {8, "\xff", -std::numeric_limits<float>::infinity()}}};
}

const AnswerHead kHead{"chatcmpl-1", 1700000000, "tiny\""};

TEST_CASE("a whole chat answer") {
  AnswerBuilder builder(kHead, Request(1, true), true);
  builder.Accepted({{1, 2}});
  builder.Delta({0, "he", {10}, {Logprobs("he", -0.25f)}});
  builder.Delta({0, "y", {11}, {Logprobs("y", -1e-9f)}, Finish::kStop, "END"});
  const json answer = json::parse(builder.Finish({2, 2, 1}));
  CHECK(answer["id"] == "chatcmpl-1");
  CHECK(answer["object"] == "chat.completion");
  CHECK(answer["created"] == 1700000000);
  CHECK(answer["model"] == "tiny\"");
  const json& choice = answer["choices"][0];
  CHECK(choice["message"]["role"] == "assistant");
  CHECK(choice["message"]["content"] == "hey");
  CHECK(choice["finish_reason"] == "stop");
  CHECK(choice["stop_reason"] == "END");
  CHECK(choice["token_ids"] == json({10, 11}));
  CHECK(answer["prompt_token_ids"] == json({1, 2}));
  const json& content = choice["logprobs"]["content"];
  CHECK(content[0]["token"] == "he");
  CHECK(content[0]["bytes"] == json({104, 101}));
  CHECK(content[0]["logprob"].get<float>() == -0.25f);
  CHECK(content[1]["logprob"].get<float>() == -1e-9f);
  CHECK(content[0]["top_logprobs"][1]["logprob"] == -9999.0);
  CHECK(content[0]["top_logprobs"][1]["bytes"] == json({255}));
  CHECK(content[0]["top_logprobs"][1]["token"] == "\xEF\xBF\xBD");
  CHECK(answer["usage"]["prompt_tokens"] == 2);
  CHECK(answer["usage"]["completion_tokens"] == 2);
  CHECK(answer["usage"]["total_tokens"] == 4);
  CHECK(answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 1);
}

TEST_CASE("a whole completion with echo: offsets count characters") {
  GenerationRequest request = Request(1, true);
  request.echo = true;
  AnswerBuilder builder({"cmpl-1", 5, "m"}, request, false);
  PromptEcho echo{0, "é", {1, 2}, {Logprobs("é", std::nanf(""))}};
  builder.Echo(echo);
  builder.Delta({0, "ab", {3, 4}, {Logprobs("a", -1), Logprobs("b", -2)}, Finish::kLength});
  const json answer = json::parse(builder.Finish({}));
  CHECK(answer["object"] == "text_completion");
  const json& choice = answer["choices"][0];
  CHECK(choice["text"] == "éab");
  CHECK(choice["finish_reason"] == "length");
  CHECK(choice["stop_reason"].is_null());
  CHECK(choice["logprobs"]["tokens"] == json({"é", "a", "b"}));
  CHECK(choice["logprobs"]["token_logprobs"] == json({nullptr, -1.0, -2.0}));
  CHECK(choice["logprobs"]["text_offset"] == json({0, 1, 2}));
  CHECK(choice["logprobs"]["top_logprobs"][0].is_null());
  CHECK(choice["logprobs"]["top_logprobs"][1]["a"] == -1.0);
}

TEST_CASE("a completion's top_logprobs hold the drawn token, as OpenAI's and vLLM's do") {
  AnswerBuilder builder({"cmpl-1", 5, "m"}, Request(1, true), false);
  TokenLogprobs drawn_far_down{{9, "z", -7}, {{7, "a", -1}}};
  TokenLogprobs same_text{{9, "a", -7}, {{7, "a", -1}}};
  TokenLogprobs alone{{9, "z", -7}, {}};
  builder.Delta({0, "zaz", {9, 9, 9}, {drawn_far_down, same_text, alone}, Finish::kLength});
  const json tops = json::parse(builder.Finish({}))["choices"][0]["logprobs"]["top_logprobs"];
  CHECK(tops == json::parse(R"([{"a":-1.0,"z":-7.0},{"a":-1.0},{"z":-7.0}])"));
}

TEST_CASE("parts of characters and tokens without text have keys of their own") {
  GenerationRequest request = Request(1, true);
  AnswerBuilder builder({"cmpl-1", 5, "m"}, request, false);
  const TokenLogprobs parts{{5, "\xed\x95", -1}, {{5, "\xed\x95", -1}, {6, "\xec\x95", -2}}};
  const TokenLogprobs ended{{2, "", -1}, {{2, "<end>", -1}, {6, "x", -2}}};
  const TokenLogprobs unlisted{{2, "", -3}, {{6, "x", -2}}};
  builder.Delta({0, "", {5, 2, 2}, {parts, ended, unlisted}, Finish::kStop});
  const json tops = json::parse(builder.Finish({}))["choices"][0]["logprobs"]["top_logprobs"];
  CHECK(tops == json::parse(R"([{"bytes:\\xed\\x95":-1.0,"bytes:\\xec\\x95":-2.0},
                                {"<end>":-1.0,"x":-2.0},{"x":-2.0,"token_id:2":-3.0}])"));
}

TEST_CASE("an echoed prompt comes with its ids and the usage of the whole request") {
  GenerationRequest request = Request(2, true);
  request.echo = request.return_token_ids = request.continuous_usage = true;
  request.prompts.resize(2);
  ChunkWriter writer({"cmpl-1", 5, "m"}, request, false);
  std::string out;
  writer.Accepted({{1, 2, 3}, {4, 5}});
  writer.Echo({0, "abc", {1, 2, 3}, {}}, &out);
  writer.Delta({0, "d", {7}}, {5, 1, 4}, &out);
  writer.Echo({2, "ef", {4, 5}, {}}, &out);
  bool done = false;
  const auto events = Events(out, &done);
  REQUIRE(events.size() == 3);
  CHECK(events[0]["choices"][0]["prompt_token_ids"] == json({1, 2, 3}));
  CHECK(events[0]["choices"][0]["token_ids"] == json::array());
  CHECK_FALSE(events[1]["choices"][0].contains("prompt_token_ids"));
  CHECK(events[1]["choices"][0]["token_ids"] == json({7}));
  CHECK(events[2]["choices"][0]["prompt_token_ids"] == json({4, 5}));
  CHECK(events[0]["usage"] ==
        json::parse(R"({"prompt_tokens":5,"completion_tokens":0,"total_tokens":5})"));
  // What was cached is known at the end.
  CHECK(events[2]["usage"] ==
        json::parse(R"({"prompt_tokens":5,"completion_tokens":1,"total_tokens":6})"));
}

TEST_CASE("stream: head constant, role first, usage and [DONE] last") {
  GenerationRequest request = Request(2);
  request.include_usage = true;
  request.return_token_ids = false;
  ChunkWriter writer(kHead, request, true);
  std::string out;
  writer.Delta({1, "", {5}}, {}, &out);  // nothing to say yet but the role
  writer.Delta({0, "a", {5}}, {}, &out);
  writer.Delta({1, "", {6}}, {}, &out);  // held back: no chunk
  writer.Delta({1, "b", {6}, {}, Finish::kStop, "", 42}, {}, &out);
  writer.Delta({0, "", {}, {}, Finish::kLength}, {}, &out);
  writer.Finish({3, 4, 0}, &out);
  bool done = false;
  const auto events = Events(out, &done);
  CHECK(done);
  REQUIRE(events.size() == 6);
  for (const json& event : events) {
    CHECK(event["id"] == "chatcmpl-1");
    CHECK(event["object"] == "chat.completion.chunk");
    CHECK(event["created"] == 1700000000);
  }
  CHECK(
      events[0]["choices"][0] ==
      json::parse(
          R"({"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})"));
  CHECK(events[1]["choices"][0]["delta"]["role"] == "assistant");
  CHECK(events[1]["choices"][0]["index"] == 0);
  CHECK(events[2]["choices"][0]["delta"]["content"] == "a");
  CHECK(events[2]["usage"].is_null());
  CHECK(events[3]["choices"][0]["finish_reason"] == "stop");
  CHECK(events[3]["choices"][0]["stop_reason"] == 42);
  CHECK(events[4]["choices"][0]["delta"] == json::object());
  CHECK(events[4]["choices"][0]["finish_reason"] == "length");
  CHECK(events[5]["choices"] == json::array());
  CHECK(events[5]["usage"]["total_tokens"] == 7);
}

TEST_CASE("continuous usage never falls, whatever choice begins") {
  GenerationRequest request = Request(2);
  request.continuous_usage = true;
  ChunkWriter writer(kHead, request, true);
  std::string out;
  writer.Delta({0, "a", {5}}, {3, 1, 0}, &out);
  writer.Delta({1, "b", {6}}, {3, 2, 0}, &out);
  bool done = false;
  int before = 0;
  for (const auto& event : Events(out, &done)) {
    const int now = event["usage"]["completion_tokens"];
    CHECK(now >= before);
    before = now;
  }
  CHECK(before == 2);
}

TEST_CASE("continuous usage; and an error in mid-stream") {
  GenerationRequest request = Request();
  request.continuous_usage = true;
  ChunkWriter writer(kHead, request, false);
  std::string out;
  writer.Delta({0, "a", {5}}, {3, 1, 0}, &out);
  ChunkWriter::Error(MakeError(500, "it \"broke\"", "numeric_error"), &out);
  bool done = false;
  const auto events = Events(out, &done);
  REQUIRE(events.size() == 2);
  CHECK(done);
  CHECK(events[0]["usage"]["completion_tokens"] == 1);
  CHECK(events[1]["error"]["message"] == "it \"broke\"");
  CHECK(events[1]["error"]["code"] == "numeric_error");
  CHECK(events[1]["error"]["param"].is_null());
}

TEST_CASE("streamed = not streamed, whatever the cuts") {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const bool chat = random() % 2;
    const bool logprobs = random() % 2;
    const int n = 1 + static_cast<int>(random() % 3);
    const GenerationRequest request = Request(n, logprobs);
    AnswerBuilder builder(kHead, request, chat);
    ChunkWriter writer(kHead, request, chat);
    std::string out;
    builder.Accepted({{9}});
    writer.Accepted({{9}});
    for (int choice = 0; choice < n; ++choice) {
      for (unsigned k = random() % 6; k > 0; --k) {
        ChoiceDelta delta;
        delta.index = choice;
        for (unsigned t = random() % 3; t > 0; --t) {
          const char* texts[] = {"한", "x", "\"q\"", "😀", ""};
          delta.text += texts[random() % 5];
          delta.token_ids.push_back(static_cast<int32_t>(random() % 100));
          if (logprobs)
            delta.logprobs.push_back(
                Logprobs(texts[random() % 5], -0.125f * static_cast<float>(random() % 50)));
        }
        writer.Delta(delta, {}, &out);
        builder.Delta(delta);
      }
      ChoiceDelta last{choice, "", {}, {}, random() % 2 ? Finish::kStop : Finish::kLength};
      writer.Delta(last, {}, &out);
      builder.Delta(last);
    }
    writer.Finish({}, &out);
    const testing::MergedStream merged(out);
    CHECK(merged.done);
    const json answer = json::parse(builder.Finish({}));
    for (int i = 0; i < n; ++i) {
      const json& whole = answer["choices"][i];
      const json& sum = merged.choices.at(i);
      CHECK(sum["text"] == (chat ? whole["message"]["content"] : whole["text"]));
      CHECK(sum["ids"] == whole["token_ids"]);
      CHECK(sum["finish"] == whole["finish_reason"]);
      if (!logprobs) continue;
      CHECK(sum["tokens"] == whole["logprobs"][chat ? "content" : "tokens"]);
      if (!chat) CHECK(sum["offsets"] == whole["logprobs"]["text_offset"]);
    }
  }
}

TEST_CASE("errors map to HTTP, OpenAI types and gRPC codes") {
  CHECK(FromStatus(absl::InvalidArgumentError("x")).http_status == 400);
  CHECK(FromStatus(absl::UnavailableError("x")).http_status == 503);
  CHECK(FromStatus(absl::UnavailableError("x")).retry_after_s > 0);
  CHECK(FromStatus(absl::ResourceExhaustedError("x")).type == "rate_limit_error");
  CHECK(FromStatus(absl::InternalError("0x7fff /etc/secret")).message == "internal error");
  const std::vector<std::pair<int, absl::StatusCode>> table = {
      {400, absl::StatusCode::kInvalidArgument},   {401, absl::StatusCode::kUnauthenticated},
      {403, absl::StatusCode::kPermissionDenied},  {404, absl::StatusCode::kNotFound},
      {413, absl::StatusCode::kResourceExhausted}, {429, absl::StatusCode::kResourceExhausted},
      {499, absl::StatusCode::kCancelled},         {500, absl::StatusCode::kInternal},
      {501, absl::StatusCode::kUnimplemented},     {503, absl::StatusCode::kUnavailable},
      {504, absl::StatusCode::kDeadlineExceeded}};
  for (const auto& [status, code] : table) CHECK(GrpcCodeOf(MakeError(status, "x")) == code);
}

TEST_CASE("listings") {
  const ServedModel model = testing::FakeModel();
  const json list = json::parse(ModelListJson(model));
  CHECK(list["object"] == "list");
  CHECK(list["data"].size() == 2);
  CHECK(list["data"][1]["id"] == "tiny-alias");
  CHECK(list["data"][1]["root"] == "tiny");
  CHECK(list["data"][0]["max_model_len"] == 1024);
  CHECK(json::parse(ModelJson(model, "tiny"))["object"] == "model");
  const json tokens = json::parse(TokenizeJson({104, 258}, model, true));
  CHECK(tokens["count"] == 2);
  CHECK(tokens["token_strs"] == json({"h", "<|im_start|>"}));
  CHECK(json::parse(TokenizeJson({104}, model, false))["token_strs"].is_null());
  CHECK(json::parse(DetokenizeJson("a\"b"))["prompt"] == "a\"b");
  CHECK(json::parse(RenderJson("x", {1, 2}, model))["token_ids"] == json({1, 2}));
}

}  // namespace
}  // namespace modu::api
