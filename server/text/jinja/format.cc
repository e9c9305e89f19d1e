#include "server/text/jinja/format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

constexpr int64_t kMaxPrecision = 400;  // digits of a float beyond it are all zero or noise

struct Spec {  // [[fill]align][sign][#][0][width][,][.precision][type]
  std::string fill = " ";
  char align = '\0';
  char sign = '-';
  bool alternate = false, zero = false, grouped = false;
  char group = ',';
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

bool ReadNumber(const std::string& text, size_t* at, int64_t* out) {
  const size_t start = *at;
  int64_t value = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    value = std::min<int64_t>(value * 10 + (text[*at] - '0'), int64_t{1} << 40);
    ++*at;
  }
  if (*at == start) return false;
  *out = value;
  return true;
}

std::string Pad(Runtime* runtime, const std::string& text, const Spec& spec, char default_align) {
  const int64_t length = CountCodePoints(text);
  if (spec.width <= length) return text;
  if (!runtime->FitsString(spec.width, static_cast<int64_t>(spec.fill.size()))) return "";
  const int64_t missing = spec.width - length;
  const char align = spec.align != '\0' ? spec.align : default_align;
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string out;
  // '=' puts the fill between the sign and the digits.
  const size_t sign =
      align == '=' && !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
  out.append(text, 0, sign);
  for (int64_t i = 0; i < before; ++i) out += spec.fill;
  out.append(text, sign);
  for (int64_t i = before; i < missing; ++i) out += spec.fill;
  return out;
}

std::string WithSign(bool negative, char sign, const std::string& digits) {
  if (negative) return "-" + digits;
  return sign == '+' ? "+" + digits : sign == ' ' ? " " + digits : digits;
}

std::string Group(const std::string& digits, char separator) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out + digits.substr(whole);
}

std::string FormatFloat(double value, char type, int64_t precision, bool alternate) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  const char format[] = {'%',
                         alternate ? '#' : '.',
                         alternate ? '.' : '*',
                         alternate ? '*' : type,
                         alternate ? type : '\0',
                         '\0'};
  char buffer[1024];
  const int digits =
      static_cast<int>(std::min<int64_t>(precision < 0 ? 6 : precision, kMaxPrecision));
  std::snprintf(buffer, sizeof(buffer), format, digits, value);
  return buffer;
}

std::string FormatInteger(Int value, char type, bool alternate) {
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  std::string digits = IntToString(value, base);
  if (digits[0] == '-') digits.erase(0, 1);
  if (alternate && base != 10)
    digits = absl::StrCat(base == 16 ? "0x" : base == 8 ? "0o" : "0b", digits);
  return type == 'X' ? Upper(digits) : digits;
}

bool ParseSpec(Runtime* runtime, const std::string& text, Spec* spec) {
  size_t i = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t fill = text.empty() ? 0 : CharBytes(text, 0);
  if (fill > 0 && fill < text.size() && is_align(text[fill])) {
    spec->fill = text.substr(0, fill);
    spec->align = text[fill];
    i = fill + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec->align = text[i++];
  }
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' '))
    spec->sign = text[i++];
  if (i < text.size() && text[i] == '#') spec->alternate = ++i > 0;
  if (i < text.size() && text[i] == '0') {
    spec->zero = ++i > 0;
    if (spec->align == '\0') {
      spec->align = '=';
      spec->fill = "0";
    }
  }
  ReadNumber(text, &i, &spec->width);
  if (i < text.size() && (text[i] == ',' || text[i] == '_')) {
    spec->grouped = true;
    spec->group = text[i++];
  }
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (!ReadNumber(text, &i, &spec->precision))
      return runtime->Fail("format: precision missing"), false;
  }
  if (i < text.size()) spec->type = text[i++];
  if (i < text.size()) return runtime->Fail("format: invalid specification"), false;
  return true;
}

std::string FormatValue(Runtime* runtime, const Value& value, const std::string& spec_text) {
  if (spec_text.empty()) return runtime->Str(value);
  Spec spec;
  if (!ParseSpec(runtime, spec_text, &spec)) return "";
  if (value.string()) {
    if ((spec.type != '\0' && spec.type != 's') || spec.align == '=') {
      return runtime->Fail("format: not for a string"), "";
    }
    std::string text = value.text();
    if (spec.precision >= 0 && spec.precision < value.str().length)
      text.resize(OffsetOf(text, spec.precision));
    return Pad(runtime, text, spec, '<');
  }
  if (!value.number()) {
    runtime->Fail(absl::StrCat("format: a ", runtime->TypeName(value), " takes no specification"));
    return "";
  }
  if (value.is(Kind::kBool) && spec.type == '\0')
    return Pad(runtime, IntToString(value.as_int()), spec, '>');
  std::string digits;
  bool negative = false;
  constexpr std::string_view kIntegerTypes = "dxXobc";
  constexpr std::string_view kFloatTypes = "fFeEgG%";
  if (value.integral() &&
      (spec.type == '\0' || kIntegerTypes.find(spec.type) != kIntegerTypes.npos)) {
    if (spec.precision >= 0) return runtime->Fail("format: precision is not for integers"), "";
    if (spec.type == 'c') {
      AppendChar(static_cast<char32_t>(std::clamp<Int>(value.as_int(), 0, 0x10FFFF)), &digits);
      return Pad(runtime, digits, spec, '<');
    }
    negative = value.as_int() < 0;
    digits = FormatInteger(value.as_int(), spec.type, spec.alternate);
  } else if (spec.type == '\0') {
    negative = std::signbit(value.as_double());
    if (spec.precision >= 0) {
      digits = FormatFloat(std::fabs(value.as_double()), 'g', std::max<int64_t>(spec.precision, 1),
                           false);
      if (digits.find_first_of(".einf") == digits.npos) digits += ".0";
    } else {
      digits = FloatToString(std::fabs(value.as_double()));
    }
  } else if (kFloatTypes.find(spec.type) != kFloatTypes.npos) {
    const bool percent = spec.type == '%';
    negative = std::signbit(value.as_double());
    digits = FormatFloat(std::fabs(value.as_double()) * (percent ? 100 : 1),
                         percent ? 'f' : spec.type, spec.precision, spec.alternate);
    if (percent) digits += "%";
  } else {
    return runtime->Fail(absl::StrCat("format: unknown code '", std::string(1, spec.type), "'")),
           "";
  }
  if (spec.grouped) digits = Group(digits, spec.group);
  if (spec.grouped && spec.zero)
    return runtime->Fail("format: grouping with zero padding is not supported"), "";
  return Pad(runtime, WithSign(negative, spec.sign, digits), spec, '>');
}

}  // namespace

std::string PercentFormat(Runtime* runtime, const std::string& format, const Value& arguments) {
  const bool is_tuple = arguments.sequence() && arguments.seq().flavor == Flavor::kTuple;
  size_t next = 0;
  bool by_name = false;
  const auto take = [&]() -> Value {
    if (is_tuple) {
      if (next < arguments.seq().items.size()) return arguments.seq().items[next++];
    } else if (next++ == 0) {
      return arguments;
    }
    return runtime->Fail("%: not enough arguments for the format");
  };
  std::string out;
  for (size_t i = 0; i < format.size() && !runtime->failed();) {
    if (format[i] != '%') {
      const size_t stop = std::min(format.find('%', i), format.size());
      out.append(format, i, stop - i);
      i = stop;
      continue;
    }
    ++i;
    std::optional<Value> named;
    if (i < format.size() && format[i] == '(') {
      const size_t close = format.find(')', i);
      if (close == format.npos) return runtime->Fail("%: incomplete key"), "";
      if (!arguments.dict()) return runtime->Fail("%: the format needs a mapping"), "";
      const Value* found =
          runtime->FindKey(arguments.map(), Value::String(format.substr(i + 1, close - i - 1)));
      if (found == nullptr) return runtime->Fail("%: the mapping lacks a key"), "";
      named = *found;
      by_name = true;
      i = close + 1;
    }
    Spec spec;
    for (; i < format.size() && std::string_view("-+ #0").find(format[i]) != std::string_view::npos;
         ++i) {
      if (format[i] == '-') spec.align = '<';
      if (format[i] == '+' || (format[i] == ' ' && spec.sign != '+')) spec.sign = format[i];
      if (format[i] == '#') spec.alternate = true;
      if (format[i] == '0') spec.zero = true;
    }
    if (i < format.size() && format[i] == '*') {
      const Value width = take();
      spec.width = width.integral()
                       ? static_cast<int64_t>(std::clamp<Int>(width.as_int(), 0, Int{1} << 40))
                       : 0;
      ++i;
    } else {
      ReadNumber(format, &i, &spec.width);
    }
    if (i < format.size() && format[i] == '.') {
      ++i;
      spec.precision = 0;
      ReadNumber(format, &i, &spec.precision);
    }
    if (i >= format.size()) return runtime->Fail("%: incomplete format"), "";
    const char type = format[i++];
    if (type == '%') {
      out.push_back('%');
      continue;
    }
    const Value value = named ? *named : take();
    std::string text;
    bool numeric = true;
    if (type == 's' || type == 'r' || type == 'a') {
      numeric = false;
      text = type == 's' ? runtime->Str(value) : runtime->Repr(value);
      if (spec.precision >= 0) text.resize(OffsetOf(text, spec.precision));
    } else if (type == 'c') {
      numeric = false;
      if (value.string()) {
        text = value.text();
      } else if (value.integral()) {
        AppendChar(static_cast<char32_t>(std::clamp<Int>(value.as_int(), 0, 0x10FFFF)), &text);
      }
    } else if (!value.number()) {
      runtime->Fail(absl::StrCat("%", std::string(1, type), " needs a number, not ",
                                 runtime->TypeName(value)));
      return "";
    } else if (type == 'd' || type == 'i' || type == 'u' || type == 'x' || type == 'X' ||
               type == 'o') {
      const std::optional<Int> number =
          value.integral() ? value.as_int() : FloatToInt(value.as_double());
      if (!number) return runtime->Fail("%d: the number is too large"), "";
      text = WithSign(*number < 0, spec.sign, FormatInteger(*number, type, spec.alternate));
    } else if (std::string_view("fFeEgG").find(type) != std::string_view::npos) {
      const double number = value.as_double();
      text = WithSign(std::signbit(number), spec.sign,
                      FormatFloat(std::fabs(number), type, spec.precision, spec.alternate));
    } else {
      return runtime->Fail("%: unsupported format character"), "";
    }
    if (spec.zero && numeric && spec.align == '\0') {
      spec.align = '=';
      spec.fill = "0";
    }
    out += Pad(runtime, text, spec, '>');
    if (!runtime->FitsString(1, static_cast<int64_t>(out.size()))) return "";
  }
  const size_t given = is_tuple ? arguments.seq().items.size() : 1;
  const bool may_be_left = by_name || arguments.dict() || (!is_tuple && arguments.sequence());
  if (!may_be_left && next < given) runtime->Fail("%: not all arguments were used by the format");
  return out;
}

std::string BraceFormat(Runtime* runtime, const std::string& format,
                        const CallArguments& arguments) {
  std::string out;
  size_t automatic = 0;
  const auto look_up = [&](const std::string& field) -> Value {
    size_t end = std::min(field.find_first_of(".["), field.size());
    const std::string first = field.substr(0, end);
    Value value;
    size_t at = 0;
    int64_t index = 0;
    if (first.empty() || (ReadNumber(first, &at, &index) && at == first.size())) {
      if (first.empty()) index = static_cast<int64_t>(automatic++);
      if (index >= static_cast<int64_t>(arguments.positional.size()))
        return runtime->Fail("format: too few arguments");
      value = arguments.positional[static_cast<size_t>(index)];
    } else {
      const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                      [&](const auto& entry) { return entry.first == first; });
      if (found == arguments.named.end())
        return runtime->Fail("format: an argument is missing by name");
      value = found->second;
    }
    while (end < field.size() && !runtime->failed()) {
      if (field[end] == '.') {
        const size_t stop = std::min(field.find_first_of(".[", end + 1), field.size());
        value = runtime->GetAttr(value, field.substr(end + 1, stop - end - 1));
        end = stop;
      } else {
        const size_t close = field.find(']', end);
        if (close == field.npos) return runtime->Fail("format: ']' is missing");
        const std::string key = field.substr(end + 1, close - end - 1);
        bool overflow = false;
        const bool digits = !key.empty() && key.find_first_not_of("0123456789") == key.npos;
        const std::optional<Int> number = digits ? ParseInt(key, 10, &overflow) : std::nullopt;
        value = runtime->GetItem(value, number ? Value::Integer(*number) : Value::String(key));
        end = close + 1;
      }
      if (value.undefined()) return runtime->FailUndefined(value);
    }
    return value;
  };
  for (size_t i = 0; i < format.size() && !runtime->failed();) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      const size_t stop = std::min(format.find_first_of("{}", i), format.size());
      out.append(format, i, stop - i);
      i = stop;
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {
      out.push_back(c);
      i += 2;
      continue;
    }
    const size_t close = c == '{' ? format.find_first_of("{}", i + 1) : format.npos;
    if (close == format.npos || format[close] == '{') {
      return runtime->Fail("format: a brace without its partner, or nested fields"), "";
    }
    std::string field = format.substr(i + 1, close - i - 1);
    std::string spec;
    if (const size_t colon = field.find(':'); colon != field.npos) {
      spec = field.substr(colon + 1);
      field.resize(colon);
    }
    char conversion = '\0';
    if (const size_t mark = field.find('!'); mark != field.npos) {
      conversion = mark + 1 < field.size() ? field[mark + 1] : '?';
      field.resize(mark);
    }
    Value value = look_up(field);
    if (conversion != '\0') {
      value = Value::String(conversion == 's' ? runtime->Str(value) : runtime->Repr(value));
    }
    out += FormatValue(runtime, value, spec);
    if (!runtime->FitsString(1, static_cast<int64_t>(out.size()))) return "";
    i = close + 1;
  }
  return out;
}

}  // namespace modu::text::jinja
