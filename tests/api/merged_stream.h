// What a stream of server-sent events says in all, choice by choice: two streams that are cut into
// events differently say the same if their sums are equal.
#pragma once
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace modu::testing {

struct MergedStream {
  std::vector<nlohmann::json> events;  // without [DONE]
  bool done = false;                   // [DONE] came, and nothing after it
  /// Of each choice: text, ids, prompt_ids, tokens, values, tops and offsets (of its logprobs),
  /// finish, stop, and whether its role came once and first.
  std::map<int, nlohmann::json> choices;
  nlohmann::json usage = nlohmann::json::object();  // the last one said

  /// `stream` is whole events; what is no event of ours throws.
  explicit MergedStream(const std::string& stream) {
    for (size_t at = 0; at < stream.size();) {
      const size_t end = stream.find("\n\n", at);
      if (done || stream.compare(at, 6, "data: ") != 0 || end == std::string::npos)
        throw std::runtime_error("no event: " + stream.substr(at, 80));
      const std::string data = stream.substr(at + 6, end - at - 6);
      at = end + 2;
      if (data == "[DONE]") {
        done = true;
      } else {
        Add(nlohmann::json::parse(data));
      }
    }
  }

  int completion_tokens() const { return usage.value("completion_tokens", -1); }

 private:
  using Json = nlohmann::json;

  void Add(Json event) {
    if (event.contains("usage") && event["usage"].is_object()) {
      if (event["usage"]["completion_tokens"] < usage.value("completion_tokens", 0))
        throw std::runtime_error("usage went back");
      usage = event["usage"];
    }
    for (const Json& choice : event.value("choices", Json::array())) AddChoice(choice);
    events.push_back(std::move(event));
  }

  static void Append(const Json& from, Json* to) {
    for (const Json& one : from) to->push_back(one);
  }

  void AddChoice(const Json& choice) {
    const int index = choice["index"];
    const bool first = choices.count(index) == 0;
    Json& sum = choices[index];
    if (first) {
      sum = {{"text", ""}, {"finish", nullptr}, {"stop", nullptr}, {"role_first", false}};
      for (const char* list : {"ids", "prompt_ids", "tokens", "values", "tops", "offsets"})
        sum[list] = Json::array();
    }
    if (!sum["finish"].is_null()) throw std::runtime_error("words after the finish");
    if (choice.contains("delta") && choice["delta"].contains("role")) sum["role_first"] = first;
    const std::string text = choice.contains("delta")
                                 ? choice["delta"].value("content", std::string())
                                 : choice["text"].get<std::string>();
    sum["text"] = sum["text"].get<std::string>() + text;
    Append(choice.value("token_ids", Json::array()), &sum["ids"]);
    Append(choice.value("prompt_token_ids", Json::array()), &sum["prompt_ids"]);
    if (const Json& logprobs = choice["logprobs"]; logprobs.contains("content")) {
      Append(logprobs["content"], &sum["tokens"]);
    } else if (!logprobs.is_null()) {
      Append(logprobs["tokens"], &sum["tokens"]);
      Append(logprobs["token_logprobs"], &sum["values"]);
      Append(logprobs["top_logprobs"], &sum["tops"]);
      Append(logprobs["text_offset"], &sum["offsets"]);
    }
    sum["finish"] = choice["finish_reason"];
    sum["stop"] = choice.value("stop_reason", Json());
  }
};

}  // namespace modu::testing
