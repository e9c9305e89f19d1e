// Answers in OpenAI's shapes with vLLM's additions, written straight to strings. Whatever bytes
// come in, what goes out is valid JSON in valid UTF-8. Pure functions; a ChunkWriter belongs to one
// call and one thread at a time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/error.h"
#include "server/api/generation_events.h"
#include "server/api/generation_request.h"
#include "server/api/json_text.h"
#include "server/api/served_model.h"

namespace modu::api {

/// Same in every chunk of an answer.
struct AnswerHead {
  std::string id;
  int64_t created_unix_s = 0;
  std::string model;
};

/// The whole of one choice, gathered from its events for an answer that does not stream.
struct ChoiceAnswer {
  PromptEcho echo;  // empty unless asked for
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;
  Finish finish = Finish::kNone;
  std::string stop_string;
  int32_t stop_token_id = -1;
};

/// Gathers events until OnFinished. One per call that does not stream.
class AnswerBuilder {
 public:
  AnswerBuilder(AnswerHead head, const GenerationRequest& request, bool chat);
  void Accepted(const std::vector<std::vector<int32_t>>& prompt_ids);
  void Echo(PromptEcho echo);
  void Delta(ChoiceDelta delta);
  /// chat.completion or text_completion.
  std::string Finish(const Usage& usage) const;
  int64_t bytes() const { return bytes_; }  // held so far, about

 private:
  AnswerHead head_;
  bool chat_, logprobs_, echo_, return_token_ids_, tokens_as_ids_;
  int32_t n_;
  std::vector<ChoiceAnswer> choices_;
  std::vector<std::vector<int32_t>> prompt_ids_;  // kept only to be returned
  int64_t bytes_ = 0;
};

/// Server-sent events of one streamed answer, framed ("data: {...}\n\n") and appended to `out`. The
/// role goes before a choice's first delta; a delta that has nothing to say appends nothing.
class ChunkWriter {
 public:
  ChunkWriter(AnswerHead head, const GenerationRequest& request, bool chat);
  void Accepted(const std::vector<std::vector<int32_t>>& prompt_ids);
  void Echo(const PromptEcho& echo, std::string* out);
  void Delta(const ChoiceDelta& delta, const Usage& so_far, std::string* out);
  /// The usage chunk if it was asked for, then [DONE].
  void Finish(const Usage& usage, std::string* out);
  /// An error after the stream began: one more data event, then [DONE].
  static void Error(const ApiError& error, std::string* out);

 private:
  struct ChoiceState {
    bool started = false;
    bool said_prompt = false;  // its ids
    int64_t text_offset = 0;   // code points so far
  };
  void Head(std::string* out) const;
  void Tail(std::string* out) const;
  /// The prompt's ids, if they were asked for, in the first chunk of a choice.
  void PromptIds(int32_t index, std::string* out);

  std::string prefix_;  // "data: {"id":...,"model":..." up to choices
  bool chat_, logprobs_, return_token_ids_, tokens_as_ids_, include_usage_, continuous_usage_;
  int32_t n_;
  std::vector<ChoiceState> choices_;
  std::vector<std::vector<int32_t>> prompt_ids_;  // kept only to be returned
  Usage so_far_;
};

/// {"error":{"message","type","param","code"}}
std::string ErrorJson(const ApiError& error);
std::string ModelListJson(const ServedModel& model);
std::string ModelJson(const ServedModel& model, const std::string& name);
std::string TokenizeJson(const std::vector<int32_t>& ids, const ServedModel& model,
                         bool with_strings);
std::string DetokenizeJson(std::string_view text);
std::string RenderJson(std::string_view text, const std::vector<int32_t>& ids,
                       const ServedModel& model);

}  // namespace modu::api
