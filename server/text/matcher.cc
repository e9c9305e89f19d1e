#include "server/text/matcher.h"

namespace modu::text {

Matcher Matcher::Literal(std::string text) {
  Matcher matcher;
  matcher.literal_ = std::move(text);
  return matcher;
}

absl::StatusOr<Matcher> Matcher::Expression(std::string_view pattern) {
  Matcher matcher;
  matcher.splitter_ = FindSplitter(pattern);
  if (matcher.splitter_ == nullptr) {
    absl::StatusOr<std::unique_ptr<Regex>> regex = Regex::Compile(pattern);
    if (!regex.ok()) return regex.status();
    matcher.regex_ = *std::move(regex);
  }
  return matcher;
}

absl::Status Matcher::FindAll(std::string_view text, std::vector<Span>* matches) const {
  if (splitter_ != nullptr) {
    splitter_(text, matches);
    return absl::OkStatus();
  }
  if (regex_ != nullptr) return regex_->FindAll(text, matches);
  if (literal_.empty()) return absl::OkStatus();
  for (size_t pos = text.find(literal_); pos != std::string_view::npos;
       pos = text.find(literal_, pos + literal_.size())) {
    matches->push_back({pos, pos + literal_.size()});
  }
  return absl::OkStatus();
}

absl::Status Matcher::Replace(std::string_view content, std::string* text) const {
  std::vector<Span> matches;
  if (absl::Status s = FindAll(*text, &matches); !s.ok()) return s;
  if (matches.empty()) return absl::OkStatus();
  std::string out;
  out.reserve(text->size());
  size_t pos = 0;
  for (const Span& m : matches) {
    out.append(*text, pos, m.begin - pos);
    out.append(content);
    pos = m.end;
  }
  out.append(*text, pos);
  *text = std::move(out);
  return absl::OkStatus();
}

}  // namespace modu::text
