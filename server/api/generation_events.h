// What a running generation says, one door or the other: deltas, echoed prompts, usage. Plain
// values; generation makes them, the doors write them out.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace modu::api {

struct LogprobEntry {
  int32_t token_id = 0;
  std::string bytes;  // raw; not necessarily UTF-8
  float logprob = 0;
};
struct TokenLogprobs {
  LogprobEntry token;
  std::vector<LogprobEntry> top;
};

enum class Finish : uint8_t { kNone, kStop, kLength, kAbort, kTimeout, kError };

/// "stop", "length", "abort", "timeout", "error"; "" for kNone.
const char* FinishName(Finish finish);

/// One step's worth of one choice. Concatenated texts are the answer; `text` is always whole UTF-8.
struct ChoiceDelta {
  int32_t index = 0;
  std::string text;
  std::vector<int32_t> token_ids;  // new since the last delta
  std::vector<TokenLogprobs> logprobs;
  Finish finish = Finish::kNone;
  std::string stop_string;     // what matched, if a stop string did
  int32_t stop_token_id = -1;  // or the id
};

/// Echoed prompt of completions: before the first delta of its choice.
struct PromptEcho {
  int32_t index = 0;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;  // first entry has no value: NaN
};

struct Usage {
  int32_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
};

}  // namespace modu::api
