// Filters over text: case, trimming, padding, replacing, escaping.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/filter_table.h"
#include "server/text/jinja/format.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

/// soft_str: the text of anything, keeping what is a string as it is.
Value Soft(Runtime& rt, const Value& input) {
  return input.string() ? input : rt.NewString(rt.Str(input));
}

template <std::string (*kCase)(std::string_view)>
Value CaseFilter(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "case filter", arguments, "");
  const Value text = Soft(rt, input);
  if (rt.failed()) return Value();
  rt.ChargeBytes(static_cast<int64_t>(text.text().size()) * 32);
  return rt.NewString(kCase(text.text()), text.markup());
}

/// jinja2's own title: words start after white space and ([{<- only.
std::string JinjaTitle(std::string_view text) {
  std::string out;
  size_t start = 0;
  const auto flush = [&](size_t end) {
    if (end == start) return;
    const size_t n = CharBytes(text, start);
    out += Upper(text.substr(start, n));
    out += Lower(text.substr(start + n, end - start - n));
    start = end;
  };
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    const char32_t c = DecodeChar(text, i, &n);
    const bool breaks = IsSpace(c) || c == U'-' || c == U'(' || c == U'{' || c == U'[' || c == U'<';
    if (breaks) {
      flush(i);
      out.append(text.substr(i, n));
      start = i + n;
    }
    i += n;
  }
  flush(text.size());
  return out;
}

Value Trim(Runtime& rt, const Value& input, const CallArguments& arguments) {
  const Value text = Soft(rt, input);
  return rt.failed() ? Value() : rt.CallMethod(text, "strip", arguments);
}

Value Replace(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "replace", arguments, "old,new,count", 2);
  if (!args.ok()) return Value();
  CallArguments call;
  call.positional = {rt.NewString(rt.Str(*args[0])), rt.NewString(rt.Str(*args[1]))};
  if (args[2] != nullptr && !args[2]->none()) call.positional.push_back(*args[2]);
  const Value text = rt.NewString(rt.Str(input));
  return rt.failed() ? Value() : rt.CallMethod(text, "replace", call);
}

Value Escape(Runtime& rt, const Value& input, const CallArguments&) {
  if (input.markup()) return input;
  return rt.NewString(EscapeHtml(rt.Str(input)), true);
}

Value ForceEscape(Runtime& rt, const Value& input, const CallArguments&) {
  return rt.NewString(EscapeHtml(rt.Str(input)), true);
}

Value Safe(Runtime& rt, const Value& input, const CallArguments&) {
  return rt.NewString(rt.Str(input), true);
}

Value String(Runtime& rt, const Value& input, const CallArguments&) { return Soft(rt, input); }

Value Indent(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "indent", arguments, "width,first,blank");
  if (!args.ok()) return Value();
  if (input.undefined()) return rt.FailUndefined(input);
  if (!input.string())
    return rt.Fail(absl::StrCat("indent: expected a string, got ", rt.TypeName(input)));
  std::string indent;
  if (args[0] != nullptr && args[0]->string()) {
    indent = args[0]->text();
  } else {
    const auto width = static_cast<int64_t>(std::clamp<Int>(args.Integer(0, 4), 0, Int{1} << 40));
    if (!rt.FitsString(width, 1)) return Value();
    indent.assign(static_cast<size_t>(width), ' ');
  }
  const bool first = args.Bool(1, false), blank = args.Bool(2, false);
  const std::string source = input.text() + "\n";
  const auto lines = SplitLines(source, false);
  if (!rt.FitsString(static_cast<int64_t>(lines.size()), static_cast<int64_t>(indent.size())))
    return Value();
  std::string out = first ? indent : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out.push_back('\n');
      if (blank || !lines[i].empty()) out += indent;
    }
    out.append(lines[i]);
  }
  return rt.NewString(std::move(out), input.markup());
}

Value Center(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "center", arguments, "width");
  if (!args.ok()) return Value();
  CallArguments call;
  call.positional.push_back(args[0] != nullptr ? *args[0] : Value::Integer(80));
  const Value text = Soft(rt, input);
  return rt.failed() ? Value() : rt.CallMethod(text, "center", call);
}

Value Truncate(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "truncate", arguments, "length,killwords,end,leeway");
  if (!args.ok()) return Value();
  if (!input.string())
    return rt.Fail(absl::StrCat("truncate: expected a string, got ", rt.TypeName(input)));
  const std::string end = args.Text(2, "...");
  const Int length = args.Integer(0, 255);
  const Int leeway = args[3] == nullptr || args[3]->none() ? 5 : args.Integer(3, 5);
  if (!args.ok()) return Value();
  const int64_t end_length = CountCodePoints(end);
  if (length < end_length || leeway < 0)
    return rt.Fail("truncate: the length is shorter than the end");
  if (input.str().length <= length + leeway) return input;
  std::string cut =
      input.text().substr(0, OffsetOf(input.text(), static_cast<int64_t>(length - end_length)));
  if (!args.Bool(1, false)) {
    const size_t space = cut.rfind(' ');
    if (space != cut.npos) cut.resize(space);
  }
  return rt.NewString(cut + end, input.markup());
}

Value WordCount(Runtime& rt, const Value& input, const CallArguments&) {
  const std::string text = rt.Str(input);
  rt.ChargeBytes(static_cast<int64_t>(text.size()) * 32);
  Int count = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    const char32_t c = DecodeChar(text, i, &n);
    const bool word = c == U'_' || IsAlpha(c) || IsNumeric(c);
    if (word && !inside) ++count;
    inside = word;
    i += n;
  }
  return Value::Integer(count);
}

Value Format(Runtime& rt, const Value& input, const CallArguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    return rt.Fail("format: positional and named arguments do not mix");
  }
  const Value text = Soft(rt, input);
  if (rt.failed()) return Value();
  Value values = Value::Tuple(arguments.positional);
  if (!arguments.named.empty()) {
    std::vector<std::pair<Value, Value>> items;
    for (const auto& [name, value] : arguments.named)
      items.emplace_back(Value::String(name), value);
    values = rt.NewDict(std::move(items));
  }
  return rt.NewString(PercentFormat(&rt, text.text(), values), text.markup());
}

Value StripTags(Runtime& rt, const Value& input, const CallArguments&) {
  const std::string text = rt.Str(input);
  std::string plain;
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, 4, "<!--") == 0) {
      const size_t end = text.find("-->", i + 4);
      if (end != text.npos) {
        i = end + 3;
        continue;
      }
    }
    if (text[i] == '<') {
      const size_t end = text.find('>', i + 1);
      if (end != text.npos) {
        i = end + 1;
        continue;
      }
    }
    plain.push_back(text[i++]);
  }
  std::string out;
  bool space = false;
  for (const auto& [from, to] : {std::pair<const char*, const char*>{"&lt;", "<"},
                                 {"&gt;", ">"},
                                 {"&#34;", "\""},
                                 {"&quot;", "\""},
                                 {"&#39;", "'"},
                                 {"&amp;", "&"}}) {
    for (size_t at = plain.find(from); at != plain.npos; at = plain.find(from, at + 1)) {
      plain.replace(at, std::char_traits<char>::length(from), to);
      if (!rt.ChargeBytes(static_cast<int64_t>(plain.size()))) return Value();
    }
  }
  for (size_t i = 0; i < plain.size();) {
    size_t n = 0;
    if (IsSpace(DecodeChar(plain, i, &n))) {
      space = !out.empty();
    } else {
      if (std::exchange(space, false)) out.push_back(' ');
      out.append(plain, i, n);
    }
    i += n;
  }
  return rt.NewString(std::move(out));
}

std::string QuoteUrl(std::string_view text, bool for_query) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !for_query);
    if (plain) {
      out.push_back(c);
    } else if (c == ' ' && for_query) {
      out.push_back('+');
    } else {
      out.push_back('%');
      out.push_back("0123456789ABCDEF"[(static_cast<unsigned char>(c) >> 4) & 15]);
      out.push_back("0123456789ABCDEF"[static_cast<unsigned char>(c) & 15]);
    }
  }
  return out;
}

Value UrlEncode(Runtime& rt, const Value& input, const CallArguments&) {
  if (!input.dict() && !input.sequence()) return rt.NewString(QuoteUrl(rt.Str(input), false));
  std::string out;
  const auto add = [&](const Value& key, const Value& value) {
    if (!out.empty()) out.push_back('&');
    absl::StrAppend(&out, QuoteUrl(rt.Str(key), true), "=", QuoteUrl(rt.Str(value), true));
  };
  if (input.dict()) {
    for (const auto& [key, value] : input.map().items) add(key, value);
  } else {
    for (const Value& pair : rt.Iterate(input)) {
      const std::vector<Value> parts = rt.Iterate(pair);
      if (parts.size() != 2) return rt.Fail("urlencode: expected pairs");
      add(parts[0], parts[1]);
    }
  }
  return rt.NewString(std::move(out));
}

Value FileSizeFormat(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "filesizeformat", arguments, "binary");
  if (!args.ok()) return Value();
  const std::optional<double> read =
      input.number() ? std::optional<double>(input.as_double()) : ParseFloat(rt.Str(input));
  if (!read || !std::isfinite(*read)) return rt.Fail("filesizeformat: expected a number");
  const bool binary = args.Bool(0, false);
  const double base = binary ? 1024 : 1000, bytes = *read;
  if (bytes == 1) return rt.NewString("1 Byte");
  if (bytes < base)
    return rt.NewString(absl::StrCat(IntToString(static_cast<Int>(bytes)), " Bytes"));
  double unit = base;
  size_t i = 0;
  for (; i < 7; ++i) {
    unit *= base;
    if (bytes < unit) break;
  }
  if (i == 7) unit *= 1;
  CallArguments call;
  call.positional = {Value::Float(base * bytes / (i == 7 ? unit * base : unit))};
  const std::string prefix(1, (binary ? "KMGTPEZY" : "kMGTPEZY")[i]);
  return rt.NewString(
      absl::StrCat(BraceFormat(&rt, "{:.1f}", call), " ", prefix, binary ? "iB" : "B"));
}

}  // namespace

const FilterTable& TextFilters() {
  static const FilterTable table = {
      {"upper", CaseFilter<Upper>},
      {"lower", CaseFilter<Lower>},
      {"title", CaseFilter<JinjaTitle>},
      {"capitalize", CaseFilter<Capitalize>},
      {"trim", Trim},
      {"replace", Replace},
      {"escape", Escape},
      {"e", Escape},
      {"forceescape", ForceEscape},
      {"safe", Safe},
      {"string", String},
      {"indent", Indent},
      {"center", Center},
      {"truncate", Truncate},
      {"wordcount", WordCount},
      {"format", Format},
      {"striptags", StripTags},
      {"urlencode", UrlEncode},
      {"filesizeformat", FileSizeFormat},
  };
  return table;
}

}  // namespace modu::text::jinja
