// Methods of str.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/format.h"
#include "server/text/jinja/methods.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

Value Strings(Runtime& rt, const std::vector<std::string>& parts, bool markup,
              Flavor flavor = Flavor::kList) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string& part : parts) {
    items.push_back(Value::String(part, markup));
    if (items.size() % 1024 == 0 && !rt.Charge(128)) break;
  }
  return rt.NewSequence(std::move(items), flavor);
}

template <bool kLeft, bool kRight>
Value StripMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "strip", arguments, "chars");
  const bool has_chars = args.ok() && args[0] != nullptr && !args[0]->none();
  const std::string chars = has_chars ? args.Text(0, "") : "";
  // A set of characters is searched for each one at the ends.
  if (!rt.Charge(1 + static_cast<int64_t>(chars.size() * self.text().size()) / 4096))
    return Value();
  return rt.NewString(std::string(Strip(self.text(), kLeft, kRight, has_chars, chars)),
                      self.markup());
}

template <std::string (*kCase)(std::string_view)>
Value CaseMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "case method", arguments, "");
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()) * 32);
  return rt.NewString(kCase(self.text()), self.markup());
}

/// str.split / rsplit on white space.
std::vector<std::string> SplitSpace(const std::string& text, Int limit, bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    if (IsSpace(DecodeChar(text, i, &n))) {
      i += n;
      continue;
    }
    const size_t start = i;
    while (i < text.size() && !IsSpace(DecodeChar(text, i, &n))) i += n;
    words.emplace_back(start, i);
  }
  std::vector<std::string> parts;
  const auto count = static_cast<Int>(words.size());
  if (limit < 0 || limit >= count) {
    for (const auto& [a, b] : words) parts.push_back(text.substr(a, b - a));
    return parts;
  }
  const auto split = static_cast<size_t>(limit);
  if (from_right) {
    const size_t whole = words.size() - split;
    const std::string_view head(text.data(), words[whole - 1].second);
    parts.emplace_back(head);
    for (size_t i = whole; i < words.size(); ++i) {
      parts.push_back(text.substr(words[i].first, words[i].second - words[i].first));
    }
  } else {
    for (size_t i = 0; i < split; ++i)
      parts.push_back(text.substr(words[i].first, words[i].second - words[i].first));
    parts.push_back(text.substr(words[split].first));
  }
  return parts;
}

std::vector<std::string> SplitBy(const std::string& text, const std::string& separator, Int limit,
                                 bool from_right) {
  std::vector<std::string> parts;
  if (from_right) {
    size_t end = text.size();
    while (limit != 0) {
      if (end < separator.size()) break;
      const size_t found = text.rfind(separator, end - separator.size());
      if (found == text.npos) break;
      parts.push_back(text.substr(found + separator.size(), end - found - separator.size()));
      end = found;
      if (limit > 0) --limit;
    }
    parts.push_back(text.substr(0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t start = 0;
  while (limit != 0) {
    const size_t found = text.find(separator, start);
    if (found == text.npos) break;
    parts.push_back(text.substr(start, found - start));
    start = found + separator.size();
    if (limit > 0) --limit;
  }
  parts.push_back(text.substr(start));
  return parts;
}

template <bool kFromRight>
Value SplitMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "split", arguments, "sep,maxsplit");
  if (!args.ok()) return Value();
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()) * 4);
  const Int limit = args.Integer(1, -1);
  if (args[0] == nullptr || args[0]->none()) {
    return Strings(rt, SplitSpace(self.text(), limit, kFromRight), self.markup());
  }
  const std::string separator = args.Text(0, "");
  if (!args.ok()) return Value();
  if (separator.empty()) return rt.Fail("split: the separator is empty");
  return Strings(rt, SplitBy(self.text(), separator, limit, kFromRight), self.markup());
}

Value SplitLinesMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "splitlines", arguments, "keepends");
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()) * 4);
  std::vector<std::string> parts;
  for (const auto line : SplitLines(self.text(), args.ok() && args.Bool(0, false)))
    parts.emplace_back(line);
  return Strings(rt, parts, self.markup());
}

/// The [start, end) of find, count and the like, in bytes; false: start lies past the text.
bool Window(Bound& args, const Value& self, size_t first, size_t* begin, size_t* end) {
  const int64_t length = self.str().length;
  const auto bound = [&](size_t index, int64_t fallback) {
    if (args[index] == nullptr || args[index]->none()) return fallback;
    Int i = args.Integer(index, 0);
    if (i < 0) i = std::max<Int>(0, i + length);
    return static_cast<int64_t>(std::min<Int>(i, length + 1));
  };
  const int64_t from = bound(first, 0);
  const int64_t to = std::min(bound(first + 1, length), length);
  if (from > length || from > to) return false;
  *begin = self.str().ascii() ? static_cast<size_t>(from) : OffsetOf(self.text(), from);
  *end = self.str().ascii() ? static_cast<size_t>(to) : OffsetOf(self.text(), to);
  return true;
}

template <bool kPrefix>
Value AffixMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, kPrefix ? "startswith" : "endswith", arguments, "affix,start,end", 1);
  if (!args.ok()) return Value();
  size_t begin = 0, end = 0;
  const bool inside = Window(args, self, 1, &begin, &end);
  std::vector<Value> affixes = {*args[0]};
  if (args[0]->sequence() && args[0]->seq().flavor == Flavor::kTuple)
    affixes = args[0]->seq().items;
  bool matches = false;
  for (const Value& affix : affixes) {
    if (affix.undefined()) return rt.FailUndefined(affix);
    if (!affix.string())
      return rt.Fail(absl::StrCat("startswith/endswith needs a string, not ", rt.TypeName(affix)));
    if (!inside) continue;
    const std::string_view text = std::string_view(self.text()).substr(begin, end - begin);
    const std::string& a = affix.text();
    matches = matches ||
              (a.size() <= text.size() &&
               (kPrefix ? text.substr(0, a.size()) : text.substr(text.size() - a.size())) == a);
  }
  return Value::Bool(matches);
}

template <bool kFromRight, bool kMustFind>
Value FindMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "find", arguments, "sub,start,end", 1);
  if (!args.ok()) return Value();
  const std::string sub = args.Text(0, "");
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()));
  size_t begin = 0, end = 0;
  size_t found = std::string_view::npos;
  if (Window(args, self, 1, &begin, &end)) {
    const std::string_view text = std::string_view(self.text()).substr(begin, end - begin);
    found = kFromRight ? text.rfind(sub) : text.find(sub);
  }
  if (!args.ok() || rt.failed()) return Value();
  if (found == std::string_view::npos)
    return kMustFind ? rt.Fail("index: the part is not in the string") : Value::Integer(-1);
  return Value::Integer(CountCodePoints(std::string_view(self.text()).substr(0, begin + found)));
}

Value ReplaceMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "replace", arguments, "old,new,count", 2);
  if (!args.ok()) return Value();
  const std::string old = args.Text(0, "");
  std::string with = args.Text(1, "");
  if (self.markup() && !args[1]->markup()) with = EscapeHtml(with);
  Int limit = args.Integer(2, -1);
  if (!args.ok()) return Value();
  const std::string& text = self.text();
  rt.ChargeBytes(static_cast<int64_t>(text.size()));
  std::string out;
  const auto too_long = [&] {
    return static_cast<int64_t>(out.size()) > rt.budget().max_output_bytes;
  };
  if (old.empty()) {  // between all characters
    for (size_t i = 0; limit != 0 && !too_long(); --limit) {
      out += with;
      if (i >= text.size()) return rt.NewString(std::move(out), self.markup());
      const size_t n = CharBytes(text, i);
      out.append(text, i, n);
      i += n;
      if (limit == 1) return rt.NewString(out + text.substr(i), self.markup());
    }
    if (limit == 0) return rt.NewString(text, self.markup());
    return rt.NewString(std::move(out), self.markup());  // too long: the budget refuses it
  }
  size_t start = 0;
  while (limit != 0 && !too_long()) {
    const size_t found = text.find(old, start);
    if (found == text.npos) break;
    out.append(text, start, found - start);
    out += with;
    start = found + old.size();
    if (limit > 0) --limit;
  }
  out.append(text, start);
  return rt.NewString(std::move(out), self.markup());
}

Value JoinMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "join", arguments, "items", 1);
  if (!args.ok()) return Value();
  std::string out;
  bool first = true;
  for (const Value& item : rt.Iterate(*args[0])) {
    if (!item.string())
      return rt.Fail(absl::StrCat("join: expected strings, got ", rt.TypeName(item)));
    if (!first) out += self.text();
    first = false;
    out += self.markup() && !item.markup() ? EscapeHtml(item.text()) : item.text();
    if (!rt.Charge(1) || static_cast<int64_t>(out.size()) > rt.budget().max_output_bytes) break;
  }
  return rt.NewString(std::move(out), self.markup());
}

template <bool (*kTest)(char32_t), bool kEmpty = false>
Value AllMethod(Runtime& rt, const Value& self, const CallArguments&) {
  const std::string& text = self.text();
  rt.ChargeBytes(static_cast<int64_t>(text.size()) * 32);
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    if (!kTest(DecodeChar(text, i, &n))) return Value::Bool(false);
    i += n;
  }
  return Value::Bool(kEmpty || !text.empty());
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
bool IsDigitChar(char32_t c) {
  return IsDecimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 ||
         (c >= 0x2070 && c <= 0x2089 && IsNumeric(c));
}
bool IsAsciiChar(char32_t c) { return c < 0x80; }

template <bool kUpper>
Value IsCaseMethod(Runtime& rt, const Value& self, const CallArguments&) {
  const std::string& text = self.text();
  rt.ChargeBytes(static_cast<int64_t>(text.size()) * 32);
  bool cased = false;
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    const char32_t c = DecodeChar(text, i, &n);
    if (kUpper ? IsLower(c) : IsUpper(c)) return Value::Bool(false);
    cased = cased || (kUpper ? IsUpper(c) : IsLower(c));
    i += n;
  }
  return Value::Bool(cased);
}

Value IsTitleMethod(Runtime& rt, const Value& self, const CallArguments&) {
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()) * 32);
  bool cased = false, inside = false;
  for (size_t i = 0; i < self.text().size();) {
    size_t n = 0;
    const char32_t c = DecodeChar(self.text(), i, &n);
    if (IsUpper(c) == inside && (IsUpper(c) || IsLower(c))) return Value::Bool(false);
    inside = IsUpper(c) || IsLower(c);
    cased = cased || inside;
    i += n;
  }
  return Value::Bool(cased);
}

template <char kAlign>
Value JustifyMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "center/ljust/rjust", arguments, "width,fillchar", 1);
  if (!args.ok()) return Value();
  const std::string fill = args.Text(1, " ");
  const Int width = args.Integer(0, 0);
  if (!args.ok()) return Value();
  if (CountCodePoints(fill) != 1) return rt.Fail("the fill must be one character");
  const int64_t length = self.str().length;
  const int64_t missing = static_cast<int64_t>(std::clamp<Int>(width - length, 0, Int{1} << 40));
  if (missing == 0) return self;
  if (!rt.FitsString(missing, static_cast<int64_t>(fill.size()))) return Value();
  // str.center puts the odd one left only where the width is odd.
  const int64_t left = kAlign == '<'   ? 0
                       : kAlign == '>' ? missing
                                       : missing / 2 + (missing & static_cast<int64_t>(width) & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return rt.NewString(std::move(out), self.markup());
}

Value ZfillMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "zfill", arguments, "width", 1);
  if (!args.ok()) return Value();
  const int64_t missing = static_cast<int64_t>(
      std::clamp<Int>(args.Integer(0, 0) - self.str().length, 0, Int{1} << 40));
  if (!rt.FitsString(missing, 1)) return Value();
  const std::string& text = self.text();
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return rt.NewString(text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') +
                      text.substr(sign));
}

template <bool kFromRight>
Value PartitionMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "partition", arguments, "sep", 1);
  if (!args.ok()) return Value();
  const std::string separator = args.Text(0, "");
  if (separator.empty()) return rt.Fail("partition: the separator is empty");
  const std::string& text = self.text();
  rt.ChargeBytes(static_cast<int64_t>(text.size()) * 2);
  const size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  std::vector<std::string> parts;
  if (at == text.npos) {
    parts = kFromRight ? std::vector<std::string>{"", "", text}
                       : std::vector<std::string>{text, "", ""};
  } else {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  }
  return Strings(rt, parts, self.markup(), Flavor::kTuple);
}

template <bool kPrefix>
Value RemoveAffixMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "removeprefix/removesuffix", arguments, "affix", 1);
  if (!args.ok()) return Value();
  const std::string affix = args.Text(0, "");
  const std::string& text = self.text();
  if (affix.empty() || affix.size() > text.size()) return self;
  const size_t rest = text.size() - affix.size();
  if (text.compare(kPrefix ? 0 : rest, affix.size(), affix) != 0) return self;
  return rt.NewString(kPrefix ? text.substr(affix.size()) : text.substr(0, rest), self.markup());
}

Value ExpandTabsMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "expandtabs", arguments, "tabsize");
  if (!args.ok()) return Value();
  const auto size = static_cast<int64_t>(std::clamp<Int>(args.Integer(0, 8), 0, 1024));
  std::string out;
  int64_t column = 0;
  for (const char c : self.text()) {
    if (c == '\t') {
      const int64_t spaces = size == 0 ? 0 : size - column % size;
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out.push_back(c);
      column = c == '\n' || c == '\r'
                   ? 0
                   : column + ((static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0);
    }
    if (static_cast<int64_t>(out.size()) > rt.budget().max_output_bytes) break;
  }
  return rt.NewString(std::move(out), self.markup());
}

Value FormatMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  return rt.NewString(BraceFormat(&rt, self.text(), arguments), self.markup());
}

}  // namespace

Value CountMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "count", arguments, "sub,start,end", 1);
  if (!args.ok()) return Value();
  if (self.sequence()) {
    Int count = 0;
    for (const Value& item : self.seq().items) count += rt.Equal(item, *args[0]) ? 1 : 0;
    return Value::Integer(count);
  }
  const std::string sub = args.Text(0, "");
  rt.ChargeBytes(static_cast<int64_t>(self.text().size()));
  size_t begin = 0, end = 0;
  if (!Window(args, self, 1, &begin, &end)) return Value::Integer(0);
  const std::string_view text = std::string_view(self.text()).substr(begin, end - begin);
  if (sub.empty()) return Value::Integer(CountCodePoints(text) + 1);
  Int count = 0;
  for (size_t at = text.find(sub); at != text.npos; at = text.find(sub, at + sub.size())) ++count;
  return Value::Integer(count);
}

Value IndexMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "index", arguments, "value", 1);
  if (!args.ok()) return Value();
  for (size_t i = 0; i < self.seq().items.size() && !rt.failed(); ++i) {
    if (rt.Equal(self.seq().items[i], *args[0])) return Value::Integer(static_cast<Int>(i));
  }
  return rt.Fail("index: the value is not in the list");
}

Value ModMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  return rt.NewString(PercentFormat(&rt, self.text(), arguments.positional[0]), self.markup());
}

const MethodTable& StringMethods() {
  static const MethodTable table = {
      {"strip", StripMethod<true, true>},
      {"lstrip", StripMethod<true, false>},
      {"rstrip", StripMethod<false, true>},
      {"upper", CaseMethod<Upper>},
      {"lower", CaseMethod<Lower>},
      {"casefold", CaseMethod<Lower>},
      {"title", CaseMethod<Title>},
      {"capitalize", CaseMethod<Capitalize>},
      {"swapcase", CaseMethod<SwapCase>},
      {"split", SplitMethod<false>},
      {"rsplit", SplitMethod<true>},
      {"splitlines", SplitLinesMethod},
      {"startswith", AffixMethod<true>},
      {"endswith", AffixMethod<false>},
      {"find", FindMethod<false, false>},
      {"rfind", FindMethod<true, false>},
      {"index", FindMethod<false, true>},
      {"rindex", FindMethod<true, true>},
      {"count", CountMethod},
      {"replace", ReplaceMethod},
      {"join", JoinMethod},
      {"format", FormatMethod},
      {"isdigit", AllMethod<IsDigitChar>},
      {"isdecimal", AllMethod<IsDecimal>},
      {"isnumeric", AllMethod<IsNumeric>},
      {"isalpha", AllMethod<IsAlpha>},
      {"isalnum", AllMethod<IsAlnum>},
      {"isspace", AllMethod<IsSpace>},
      {"isascii", AllMethod<IsAsciiChar, true>},
      {"isprintable", AllMethod<IsPrintable, true>},
      {"isupper", IsCaseMethod<true>},
      {"islower", IsCaseMethod<false>},
      {"istitle", IsTitleMethod},
      {"center", JustifyMethod<'^'>},
      {"ljust", JustifyMethod<'<'>},
      {"rjust", JustifyMethod<'>'>},
      {"zfill", ZfillMethod},
      {"partition", PartitionMethod<false>},
      {"rpartition", PartitionMethod<true>},
      {"removeprefix", RemoveAffixMethod<true>},
      {"removesuffix", RemoveAffixMethod<false>},
      {"expandtabs", ExpandTabsMethod},
  };
  return table;
}

}  // namespace modu::text::jinja
