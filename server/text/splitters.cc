#include "server/text/splitters.h"

namespace modu::text {
namespace {

/// Reads characters and their classes; past the end the class is 0 and the length 0.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text), table_(FlagTable()) {}
  size_t size() const { return text_.size(); }
  char Byte(size_t pos) const { return pos < text_.size() ? text_[pos] : '\0'; }
  bool AtEnd(size_t pos) const { return pos >= text_.size(); }

  uint8_t Flags(size_t pos, int* length) const {
    if (pos >= text_.size()) return *length = 0, 0;
    const auto byte = static_cast<unsigned char>(text_[pos]);
    if (byte < 0x80) return *length = 1, table_[byte];
    const uint32_t c = DecodeValid(text_.data() + pos, length);
    return c < kFlagTableSize ? table_[c] : FlagsOf(c);
  }
  /// End of the run of characters that have any of these flags.
  size_t Run(size_t pos, uint8_t flags) const {
    int length = 1;
    while (Flags(pos, &length) & flags) pos += length;
    return pos;
  }
  /// End of the run of characters that are neither space, letter nor number.
  size_t OtherRun(size_t pos) const {
    int length = 1;
    while (pos < text_.size() && !(Flags(pos, &length) & (kSpace | kLetter | kNumber)))
      pos += length;
    return pos;
  }

 private:
  std::string_view text_;
  const uint8_t* table_;
};

bool IsNewline(char c) { return c == '\r' || c == '\n'; }

/// 's 't 're 've 'm 'll 'd; without case also the long s, which folds to s. Returns the end, or
/// pos.
size_t Contraction(const Reader& r, size_t pos, bool ignore_case) {
  if (r.Byte(pos) != '\'') return pos;
  const auto lower = [&](size_t at) {
    const char c = r.Byte(at);
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char a = lower(pos + 1), b = a == '\0' ? '\0' : lower(pos + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return pos + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return pos + 3;
  if (ignore_case && a == '\xC5' && r.Byte(pos + 2) == '\xBF') return pos + 3;
  return pos;
}

/// \s*[\r\n]+ (or \s*[\r\n], the same), then \s+(?!\S), then \s+, at a space.
size_t Spaces(const Reader& r, size_t pos, bool newlines) {
  size_t last = pos, end = pos, after_newline = 0;
  int length = 1;
  while (r.Flags(end, &length) & kSpace) {
    last = end;
    if (IsNewline(r.Byte(end))) after_newline = end + 1;
    end += length;
  }
  if (newlines && after_newline > 0) return after_newline;
  return r.AtEnd(end) || last == pos ? end : last;
}

size_t Numbers(const Reader& r, size_t pos, int most) {
  int length = 1;
  for (int i = 0; i < most && (r.Flags(pos, &length) & kNumber); ++i) pos += length;
  return pos;
}

size_t Gpt2Token(const Reader& r, size_t pos) {
  if (const size_t end = Contraction(r, pos, false); end > pos) return end;
  int length = 1;
  const size_t start = r.Byte(pos) == ' ' ? pos + 1 : pos;
  const uint8_t flags = r.Flags(start, &length);
  if (flags & kLetter) return r.Run(start, kLetter);
  if (flags & kNumber) return r.Run(start, kNumber);
  if (!r.AtEnd(start) && !(flags & kSpace)) return r.OtherRun(start);
  return Spaces(r, pos, false);
}

/// What Llama 3, Qwen 2, K-EXAONE and o200k share: everything but the letters. `trailing` is what
/// may follow a run of other characters, once or any number of times.
template <int kDigits, bool kSlash, bool kRepeat>
size_t RestToken(const Reader& r, size_t pos) {
  int length = 1;
  if (r.Flags(pos, &length) & kNumber) return Numbers(r, pos, kDigits);
  const size_t start = r.Byte(pos) == ' ' ? pos + 1 : pos;
  size_t end = r.OtherRun(start);
  if (end == start) return Spaces(r, pos, true);
  while (IsNewline(r.Byte(end)) || (kSlash && r.Byte(end) == '/')) {
    ++end;
    if (!kRepeat) break;
  }
  return end;
}

/// Where the letters may start: behind one character that is no newline, letter or number, if
/// letters follow it.
bool LettersAt(const Reader& r, size_t pos, size_t* start) {
  int length = 1;
  const uint8_t flags = r.Flags(pos, &length);
  *start = pos;
  if (flags & kLetter) return true;
  if ((flags & kNumber) || IsNewline(r.Byte(pos))) return false;
  *start = pos + length;
  return (r.Flags(*start, &length) & kLetter) != 0;
}

template <int kDigits>
size_t Cl100kToken(const Reader& r, size_t pos) {
  if (const size_t end = Contraction(r, pos, true); end > pos) return end;
  size_t start = pos;
  if (LettersAt(r, pos, &start)) return r.Run(start, kLetter);
  return RestToken<kDigits, false, true>(r, pos);
}

size_t KExaoneToken(const Reader& r, size_t pos) {
  if (const size_t end = Contraction(r, pos, true); end > pos) return end;
  size_t start = pos;
  if (!LettersAt(r, pos, &start)) return RestToken<1, true, false>(r, pos);
  int length = 1;
  while (true) {
    start = r.Run(r.Run(start, kLetter), kMark);
    if (r.Flags(start, &length) & kLetter) continue;
    if (r.Byte(start) != ' ' || !(r.Flags(start + 1, &length) & kLetter)) return start;
    ++start;
  }
}

bool IsUpperSet(uint8_t flags) {
  return (flags & kMark) || ((flags & kLetter) && !(flags & kLower));
}
bool IsLowerSet(uint8_t flags) {
  return (flags & kMark) || ((flags & kLetter) && !(flags & kUpper));
}

/// [upper]*[lower]+ at pos, as backtracking finds it; pos where it does not match.
size_t UppersThenLowers(const Reader& r, size_t pos) {
  int length = 1;
  size_t end = pos, end_of_both = pos;
  for (uint8_t f; IsUpperSet(f = r.Flags(end, &length));) {
    end += length;
    if (IsLowerSet(f)) end_of_both = end;
  }
  if (!IsLowerSet(r.Flags(end, &length))) return end_of_both;
  while (IsLowerSet(r.Flags(end, &length))) end += length;
  return end;
}

/// [upper]+[lower]* where UppersThenLowers did not match: there is no lower.
size_t Uppers(const Reader& r, size_t pos) {
  int length = 1;
  while (IsUpperSet(r.Flags(pos, &length))) pos += length;
  return pos;
}

size_t O200kToken(const Reader& r, size_t pos) {
  int length = 1;
  const uint8_t flags = r.Flags(pos, &length);
  const bool can_lead = !(flags & (kLetter | kNumber)) && !IsNewline(r.Byte(pos));
  const size_t next = pos + length;
  for (const auto match : {UppersThenLowers, Uppers}) {
    size_t end = can_lead ? match(r, next) : next;
    if (can_lead && end > next) return Contraction(r, end, true);
    end = match(r, pos);
    if (end > pos) return Contraction(r, end, true);
  }
  return RestToken<3, true, true>(r, pos);
}

template <size_t (*kToken)(const Reader&, size_t)>
void SplitAll(std::string_view text, std::vector<Span>* matches) {
  const Reader reader(text);
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = kToken(reader, pos);
    matches->push_back({pos, end});
    pos = end;
  }
}

}  // namespace

Splitter FindSplitter(std::string_view regex) {
  if (regex == kGpt2Regex) return SplitAll<Gpt2Token>;
  if (regex == kLlama3Regex) return SplitAll<Cl100kToken<3>>;
  if (regex == kQwen2Regex) return SplitAll<Cl100kToken<1>>;
  if (regex == kKExaoneRegex) return SplitAll<KExaoneToken>;
  if (regex == kO200kRegex) return SplitAll<O200kToken>;
  return nullptr;
}

}  // namespace modu::text
