#include "server/api/answer_parts.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api/json_text.h"
#include "server/text/unicode.h"

namespace modu::api {
namespace {

// OpenAI's clients want a number: -9999 stands for minus infinity and for what has no value.
void AppendLogprob(float value, std::string* out) {
  if (!std::isfinite(value)) value = -9999.0f;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value);
  out->append(text, end.ptr);
}

void AppendToken(const LogprobEntry& entry, bool as_id, std::string* out) {
  if (as_id) {
    *out += "\"token_id:";
    AppendNumber(entry.token_id, out);
    *out += '"';
  } else {
    AppendJsonString(entry.bytes, out);
  }
}

// What tells tokens apart in an object: their text, or their bytes as OpenAI spells those that are
// only a part of a character, or the id of one that has no text.
void AppendTokenKey(const LogprobEntry& entry, bool as_id, std::string* out) {
  if (as_id || entry.bytes.empty()) return AppendToken(entry, true, out);
  if (text::Utf8Lossy(entry.bytes) == entry.bytes) return AppendToken(entry, false, out);
  constexpr char kDigits[] = "0123456789abcdef";
  *out += "\"bytes:";
  for (const char c : entry.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    *out += "\\\\x";
    *out += kDigits[byte >> 4];
    *out += kDigits[byte & 15];
  }
  *out += '"';
}

void AppendEntry(const LogprobEntry& entry, bool as_id, std::string* out) {
  *out += "{\"token\":";
  AppendToken(entry, as_id, out);
  *out += ",\"logprob\":";
  AppendLogprob(entry.logprob, out);
  *out += ",\"bytes\":[";
  for (size_t i = 0; i < entry.bytes.size(); ++i) {
    if (i) *out += ',';
    AppendNumber(static_cast<unsigned char>(entry.bytes[i]), out);
  }
  *out += ']';
}

// An object by token, best first; the drawn token is always in it. Two ids may spell the same text,
// of which the better one stays. The drawn one may have no text here and have it in the list: a
// control token that ended the answer.
void AppendTopObject(const TokenLogprobs& one, bool as_id, std::string* out) {
  *out += '{';
  std::vector<std::string> seen;
  const auto append = [&](const LogprobEntry& entry) {
    std::string key;
    AppendTokenKey(entry, as_id, &key);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) return;
    if (!seen.empty()) *out += ',';
    *out += key;
    *out += ':';
    AppendLogprob(entry.logprob, out);
    seen.push_back(std::move(key));
  };
  bool drawn = false;
  for (const LogprobEntry& entry : one.top) {
    append(entry);
    drawn |= entry.token_id == one.token.token_id;
  }
  if (!drawn) append(one.token);
  *out += '}';
}

int64_t CodePoints(std::string_view text) {
  int64_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace

const char* FinishName(Finish finish) {
  switch (finish) {
    case Finish::kNone:
      return "";
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kAbort:
      return "abort";
    case Finish::kTimeout:
      return "timeout";
    case Finish::kError:
      return "error";
  }
  return "";
}

void AppendHead(const AnswerHead& head, const char* object, std::string* out) {
  *out += "{\"id\":";
  AppendJsonString(head.id, out);
  *out += ",\"object\":\"";
  *out += object;
  *out += "\",\"created\":";
  AppendNumber(head.created_unix_s, out);
  *out += ",\"model\":";
  AppendJsonString(head.model, out);
}

void AppendChatLogprobs(const std::vector<TokenLogprobs>& logprobs, bool as_id, std::string* out) {
  *out += "{\"content\":[";
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (i) *out += ',';
    AppendEntry(logprobs[i].token, as_id, out);
    *out += ",\"top_logprobs\":[";
    for (size_t k = 0; k < logprobs[i].top.size(); ++k) {
      if (k) *out += ',';
      AppendEntry(logprobs[i].top[k], as_id, out);
      *out += '}';
    }
    *out += "]}";
  }
  *out += "],\"refusal\":null}";
}

void AppendCompletionLogprobs(const std::vector<const std::vector<TokenLogprobs>*>& parts,
                              bool as_id, int64_t* offset, std::string* out) {
  std::string tokens, values, tops, offsets;
  const char* comma = "";
  for (const auto* part : parts) {
    for (const TokenLogprobs& one : *part) {
      for (std::string* list : {&tokens, &values, &tops, &offsets}) *list += comma;
      comma = ",";
      AppendToken(one.token, as_id, &tokens);
      AppendNumber(*offset, &offsets);
      *offset += CodePoints(one.token.bytes);
      if (std::isnan(one.token.logprob)) {  // the first token of an echoed prompt
        values += "null";
        tops += "null";
        continue;
      }
      AppendLogprob(one.token.logprob, &values);
      AppendTopObject(one, as_id, &tops);
    }
  }
  *out += "{\"tokens\":[" + tokens + "],\"token_logprobs\":[" + values + "],\"top_logprobs\":[" +
          tops + "],\"text_offset\":[" + offsets + "]}";
}

void AppendFinish(Finish finish, const std::string& stop_string, int32_t stop_token_id,
                  std::string* out) {
  *out += ",\"finish_reason\":";
  if (finish == Finish::kNone) {
    *out += "null";
    return;
  }
  *out += '"';
  *out += FinishName(finish);
  *out += "\",\"stop_reason\":";
  if (finish == Finish::kStop && !stop_string.empty()) {
    AppendJsonString(stop_string, out);
  } else if (finish == Finish::kStop && stop_token_id >= 0) {
    AppendNumber(stop_token_id, out);
  } else {
    *out += "null";
  }
}

void AppendUsageSoFar(const Usage& usage, std::string* out) {
  *out += "{\"prompt_tokens\":";
  AppendNumber(usage.prompt_tokens, out);
  *out += ",\"completion_tokens\":";
  AppendNumber(usage.completion_tokens, out);
  *out += ",\"total_tokens\":";
  AppendNumber(static_cast<int64_t>(usage.prompt_tokens) + usage.completion_tokens, out);
  *out += '}';
}

void AppendUsage(const Usage& usage, std::string* out) {
  AppendUsageSoFar(usage, out);
  out->pop_back();
  *out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendNumber(usage.cached_tokens, out);
  *out += "},\"completion_tokens_details\":{\"reasoning_tokens\":0}}";
}

}  // namespace modu::api
