#include "server/api/response_json.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace modu::api {
namespace {

// Length of the valid UTF-8 sequence at `p`, or 0; then *bad is the length of the maximal
// ill-formed part.
size_t SequenceLength(const unsigned char* p, size_t left, size_t* bad) {
  const unsigned char lead = p[0];
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // bounds of the second byte (Unicode table 3-7)
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    *bad = 1;
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= left || p[i] < low || p[i] > high) {
      *bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

void AppendNumber(int64_t value, std::string* out) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof text, value);
  out->append(text, end.ptr);
}

// OpenAI's clients want a number: -9999 stands for minus infinity and for what has no value.
void AppendLogprob(float value, std::string* out) {
  if (!std::isfinite(value)) value = -9999.0f;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value);
  out->append(text, end.ptr);
}

void AppendIds(const std::vector<int32_t>& ids, std::string* out) {
  *out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i) *out += ',';
    AppendNumber(ids[i], out);
  }
  *out += ']';
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

int64_t CodePoints(std::string_view text) {
  int64_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

// {tokens, token_logprobs, top_logprobs, text_offset}; offsets count code points from *offset on.
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
      // An object by token: two ids may spell the same text, of which the better one stays.
      tops += '{';
      std::vector<std::string> seen;
      for (const LogprobEntry& entry : one.top) {
        std::string key;
        AppendToken(entry, as_id, &key);
        bool known = false;
        for (const std::string& other : seen) known = known || other == key;
        if (known) continue;
        if (!seen.empty()) tops += ',';
        tops += key;
        tops += ':';
        AppendLogprob(entry.logprob, &tops);
        seen.push_back(std::move(key));
      }
      tops += '}';
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

void AppendUsage(const Usage& usage, std::string* out) {
  *out += "{\"prompt_tokens\":";
  AppendNumber(usage.prompt_tokens, out);
  *out += ",\"completion_tokens\":";
  AppendNumber(usage.completion_tokens, out);
  *out += ",\"total_tokens\":";
  AppendNumber(static_cast<int64_t>(usage.prompt_tokens) + usage.completion_tokens, out);
  *out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendNumber(usage.cached_tokens, out);
  *out += "},\"completion_tokens_details\":{\"reasoning_tokens\":0}}";
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

constexpr char kEnd[] = "}\n\n";

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

void AppendJsonString(std::string_view text, std::string* out) {
  constexpr char kHex[] = "0123456789abcdef";
  out->reserve(out->size() + text.size() + 2);
  *out += '"';
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  size_t plain = 0;  // start of the run that needs no change
  size_t i = 0;
  const auto flush = [&] { out->append(text.data() + plain, i - plain); };
  while (i < text.size()) {
    const unsigned char c = p[i];
    if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      size_t bad = 0;
      const size_t length = SequenceLength(p + i, text.size() - i, &bad);
      if (length > 0) {
        i += length;
        continue;
      }
      flush();
      *out += "\xEF\xBF\xBD";
      i += bad;
      plain = i;
      continue;
    }
    flush();
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        *out += "\\u00";
        *out += kHex[c >> 4];
        *out += kHex[c & 15];
    }
    plain = ++i;
  }
  flush();
  *out += '"';
}

AnswerBuilder::AnswerBuilder(AnswerHead head, const GenerationRequest& request, bool chat)
    : head_(std::move(head)),
      chat_(chat),
      logprobs_(request.sampling.top_logprobs >= 0),
      echo_(request.echo),
      return_token_ids_(request.return_token_ids),
      tokens_as_ids_(request.return_tokens_as_token_ids),
      n_(request.n),
      choices_(request.prompts.size() * static_cast<size_t>(request.n)) {}

void AnswerBuilder::Accepted(const std::vector<std::vector<int32_t>>& prompt_ids) {
  if (return_token_ids_) prompt_ids_ = prompt_ids;
}

void AnswerBuilder::Echo(PromptEcho echo) {
  ChoiceAnswer& choice = choices_.at(static_cast<size_t>(echo.index));
  bytes_ += static_cast<int64_t>(echo.text.size() + echo.logprobs.size() * sizeof(TokenLogprobs));
  choice.echo = std::move(echo);
}

void AnswerBuilder::Delta(ChoiceDelta delta) {
  ChoiceAnswer& choice = choices_.at(static_cast<size_t>(delta.index));
  bytes_ += static_cast<int64_t>(delta.text.size() + delta.token_ids.size() * sizeof(int32_t) +
                                 delta.logprobs.size() * sizeof(TokenLogprobs));
  choice.text += delta.text;
  if (return_token_ids_) {
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  }
  for (TokenLogprobs& one : delta.logprobs) choice.logprobs.push_back(std::move(one));
  if (delta.finish != Finish::kNone) {
    choice.finish = delta.finish;
    choice.stop_string = std::move(delta.stop_string);
    choice.stop_token_id = delta.stop_token_id;
  }
}

std::string AnswerBuilder::Finish(const Usage& usage) const {
  std::string out;
  out.reserve(static_cast<size_t>(bytes_) + 512);
  AppendHead(head_, chat_ ? "chat.completion" : "text_completion", &out);
  out += ",\"choices\":[";
  for (size_t i = 0; i < choices_.size(); ++i) {
    const ChoiceAnswer& choice = choices_[i];
    if (i) out += ',';
    out += "{\"index\":";
    AppendNumber(static_cast<int64_t>(i), &out);
    if (chat_) {
      out += ",\"message\":{\"role\":\"assistant\",\"content\":";
      AppendJsonString(choice.text, &out);
      out += ",\"refusal\":null}";
    } else {
      out += ",\"text\":";
      AppendJsonString(echo_ ? choice.echo.text + choice.text : choice.text, &out);
    }
    out += ",\"logprobs\":";
    if (!logprobs_) {
      out += "null";
    } else if (chat_) {
      AppendChatLogprobs(choice.logprobs, tokens_as_ids_, &out);
    } else {
      int64_t offset = 0;
      AppendCompletionLogprobs({&choice.echo.logprobs, &choice.logprobs}, tokens_as_ids_, &offset,
                               &out);
    }
    AppendFinish(choice.finish, choice.stop_string, choice.stop_token_id, &out);
    if (return_token_ids_) {
      const size_t prompt = i / static_cast<size_t>(n_);
      if (prompt < prompt_ids_.size()) {
        out += ",\"prompt_token_ids\":";
        AppendIds(prompt_ids_[prompt], &out);
      }
      out += ",\"token_ids\":";
      AppendIds(choice.token_ids, &out);
    }
    out += '}';
  }
  out += "],\"usage\":";
  AppendUsage(usage, &out);
  if (chat_ && return_token_ids_ && !prompt_ids_.empty()) {  // vLLM's place for it
    out += ",\"prompt_token_ids\":";
    AppendIds(prompt_ids_.front(), &out);
  }
  out += '}';
  return out;
}

ChunkWriter::ChunkWriter(AnswerHead head, const GenerationRequest& request, bool chat)
    : chat_(chat),
      logprobs_(request.sampling.top_logprobs >= 0),
      return_token_ids_(request.return_token_ids),
      tokens_as_ids_(request.return_tokens_as_token_ids),
      include_usage_(request.include_usage),
      continuous_usage_(request.continuous_usage),
      n_(request.n),
      choices_(request.prompts.size() * static_cast<size_t>(request.n)) {
  prefix_ = "data: ";
  AppendHead(head, chat ? "chat.completion.chunk" : "text_completion", &prefix_);
  prefix_ += ",\"choices\":[";
}

void ChunkWriter::Accepted(const std::vector<std::vector<int32_t>>& prompt_ids) {
  if (return_token_ids_) prompt_ids_ = prompt_ids;
}

void ChunkWriter::Head(std::string* out) const { *out += prefix_; }

void ChunkWriter::Tail(const Usage& so_far, std::string* out) const {
  *out += ']';
  if (continuous_usage_) {
    *out += ",\"usage\":";
    AppendUsage(so_far, out);
  } else if (include_usage_) {
    *out += ",\"usage\":null";
  }
  *out += kEnd;
}

void ChunkWriter::Echo(const PromptEcho& echo, std::string* out) {
  ChoiceState& state = choices_.at(static_cast<size_t>(echo.index));
  Head(out);
  *out += "{\"index\":";
  AppendNumber(echo.index, out);
  *out += ",\"text\":";
  AppendJsonString(echo.text, out);
  *out += ",\"logprobs\":";
  if (logprobs_) {
    AppendCompletionLogprobs({&echo.logprobs}, tokens_as_ids_, &state.text_offset, out);
  } else {
    *out += "null";
  }
  *out += ",\"finish_reason\":null}";
  Tail(Usage{static_cast<int32_t>(echo.token_ids.size()), 0, 0}, out);
}

void ChunkWriter::Delta(const ChoiceDelta& delta, const Usage& so_far, std::string* out) {
  ChoiceState& state = choices_.at(static_cast<size_t>(delta.index));
  const bool first = !state.started;
  if (first && chat_) {
    Head(out);
    *out += "{\"index\":";
    AppendNumber(delta.index, out);
    *out +=
        ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":"
        "null";
    const size_t prompt = static_cast<size_t>(delta.index) / static_cast<size_t>(n_);
    if (return_token_ids_ && prompt < prompt_ids_.size()) {
      *out += ",\"prompt_token_ids\":";
      AppendIds(prompt_ids_[prompt], out);
    }
    *out += '}';
    Tail(Usage{so_far.prompt_tokens, 0, so_far.cached_tokens}, out);
  }
  state.started = true;
  const bool says_tokens =
      (return_token_ids_ && !delta.token_ids.empty()) || (logprobs_ && !delta.logprobs.empty());
  if (delta.text.empty() && !says_tokens && delta.finish == api::Finish::kNone) return;
  Head(out);
  *out += "{\"index\":";
  AppendNumber(delta.index, out);
  if (chat_) {
    if (delta.text.empty()) {
      *out += ",\"delta\":{}";
    } else {
      *out += ",\"delta\":{\"content\":";
      AppendJsonString(delta.text, out);
      *out += '}';
    }
  } else {
    *out += ",\"text\":";
    AppendJsonString(delta.text, out);
  }
  *out += ",\"logprobs\":";
  if (!logprobs_ || delta.logprobs.empty()) {
    *out += "null";
  } else if (chat_) {
    AppendChatLogprobs(delta.logprobs, tokens_as_ids_, out);
  } else {
    AppendCompletionLogprobs({&delta.logprobs}, tokens_as_ids_, &state.text_offset, out);
  }
  AppendFinish(delta.finish, delta.stop_string, delta.stop_token_id, out);
  if (return_token_ids_) {
    if (first && !chat_) {
      const size_t prompt = static_cast<size_t>(delta.index) / static_cast<size_t>(n_);
      if (prompt < prompt_ids_.size()) {
        *out += ",\"prompt_token_ids\":";
        AppendIds(prompt_ids_[prompt], out);
      }
    }
    *out += ",\"token_ids\":";
    AppendIds(delta.token_ids, out);
  }
  *out += '}';
  Tail(so_far, out);
}

void ChunkWriter::Finish(const Usage& usage, std::string* out) {
  if (include_usage_) {
    Head(out);
    *out += "],\"usage\":";
    AppendUsage(usage, out);
    *out += kEnd;
  }
  *out += "data: [DONE]\n\n";
}

void ChunkWriter::Error(const ApiError& error, std::string* out) {
  *out += "data: ";
  *out += ErrorJson(error);
  *out += "\n\ndata: [DONE]\n\n";
}

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
