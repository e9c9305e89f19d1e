#include "server/text/token_decoder.h"

#include <algorithm>

#include "server/text/byte_alphabet.h"

namespace modu::text {
namespace {

constexpr char kReplacementCharacter[] = "\xEF\xBF\xBD";

std::string Joined(const std::vector<std::string>& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  return all;
}

std::vector<std::string> Single(std::string text) {
  std::vector<std::string> one;
  one.push_back(std::move(text));
  return one;
}

void ReplaceAll(std::string_view from, std::string_view to, std::string* text) {
  if (from.empty()) return;
  for (size_t pos = text->find(from); pos != std::string::npos;
       pos = text->find(from, pos + to.size())) {
    text->replace(pos, from.size(), to);
  }
}

bool EndsWith(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

/// Runs of byte tokens become their characters, or a U+FFFD each where they are none.
std::vector<std::string> FallBack(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (ValidPrefix(run) == run.size()) {
      out.push_back(run);
    } else {
      for (size_t i = 0; i < run.size(); ++i) out.push_back(kReplacementCharacter);
    }
    run.clear();
  };
  for (const std::string& token : tokens) {
    if (const auto byte = ParseByteToken(token)) {
      run.push_back(static_cast<char>(*byte));
      continue;
    }
    flush();
    out.push_back(token);
  }
  flush();
  return out;
}

void StripEnds(const DecodeStep& step, std::string* token) {
  size_t begin = 0, end = token->size();
  const std::string_view content = step.content;
  for (size_t i = 0;
       i < step.start && std::string_view(*token).substr(begin, content.size()) == content; ++i) {
    begin += content.size();
  }
  for (size_t i = 0; i < step.stop && end > begin &&
                     EndsWith(std::string_view(*token).substr(begin, end - begin), content);
       ++i) {
    end -= content.size();
  }
  *token = token->substr(begin, end - begin);
}

}  // namespace

void TokenDecoder::Apply(const DecodeStep& step, std::vector<std::string>* tokens) const {
  using Kind = DecodeStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel: {
      std::string bytes;
      for (const std::string& token : *tokens) {
        const auto raw = FromByteAlphabet(token);
        bytes += raw ? *raw : token;
      }
      *tokens = Single(Utf8Lossy(bytes));
      break;
    }
    case Kind::kByteFallback:
      *tokens = FallBack(*tokens);
      break;
    case Kind::kFuse:
      *tokens = Single(Joined(*tokens));
      break;
    case Kind::kReplace:
      for (std::string& token : *tokens) {
        // A decoder that hits a limit on one token leaves it as it is.
        (void)step.pattern.Replace(step.content, &token);
      }
      break;
    case Kind::kStrip:
      for (std::string& token : *tokens) StripEnds(step, &token);
      break;
    case Kind::kMetaspace:
      for (size_t i = 0; i < tokens->size(); ++i) {
        ReplaceAll(step.content, i == 0 && step.prefixed ? "" : " ", &(*tokens)[i]);
      }
      break;
    case Kind::kSuffix:
      for (size_t i = 0; i < tokens->size(); ++i) {
        ReplaceAll(step.content, i + 1 == tokens->size() ? "" : " ", &(*tokens)[i]);
      }
      break;
  }
}

std::string TokenDecoder::Join(std::vector<std::string> spellings) const {
  if (steps_.empty()) {
    std::string text;
    for (size_t i = 0; i < spellings.size(); ++i) text += (i == 0 ? "" : " ") + spellings[i];
    return text;
  }
  for (const DecodeStep& step : steps_) Apply(step, &spellings);
  return Joined(spellings);
}

std::string TokenDecoder::Bytes(std::string_view spelling) const {
  using Kind = DecodeStep::Kind;
  std::string text(spelling);
  for (const DecodeStep& step : steps_) {
    switch (step.kind) {
      case Kind::kByteLevel:
        if (auto raw = FromByteAlphabet(text)) text = *std::move(raw);
        break;
      case Kind::kByteFallback:
        if (const auto byte = ParseByteToken(text)) return std::string(1, static_cast<char>(*byte));
        break;
      case Kind::kReplace:
        (void)step.pattern.Replace(step.content, &text);
        break;
      case Kind::kMetaspace:
      case Kind::kSuffix:
        ReplaceAll(step.content, " ", &text);
        break;
      case Kind::kFuse:
      case Kind::kStrip:
        break;  // they concern the ends of the whole
    }
  }
  return text;
}

bool TokenDecoder::HasByteLevel() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const DecodeStep& step) {
    return step.kind == DecodeStep::Kind::kByteLevel;
  });
}

}  // namespace modu::text
