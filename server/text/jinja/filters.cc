// Filters over single values, and the look-up of all filters.
#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/filter_table.h"
#include "server/text/jinja/format.h"
#include "server/text/jinja/json.h"
#include "server/text/jinja/number.h"

namespace modu::text::jinja {
namespace {

Value Default(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "default", arguments, "default_value,boolean");
  if (!args.ok()) return Value();
  if (!input.undefined() && !(args.Bool(1, false) && !rt.Truthy(input))) return input;
  return args[0] != nullptr ? *args[0] : Value::String("");
}

Value LengthFilter(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "length", arguments, "");
  return Value::Integer(rt.Length(input));
}

Value ToInt(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "int", arguments, "default,base");
  if (!args.ok()) return Value();
  if (input.undefined()) return rt.FailUndefined(input);
  const Value fallback = args[0] != nullptr ? *args[0] : Value::Integer(0);
  if (input.integral()) return Value::Integer(input.as_int());
  std::optional<double> number;
  if (input.string()) {
    bool overflow = false;
    rt.ChargeBytes(static_cast<int64_t>(input.text().size()) * 32);
    const Int base = args.Integer(1, 10);
    if (base < 0 || base > 36) return fallback;
    const std::optional<Int> read = ParseInt(input.text(), static_cast<int>(base), &overflow);
    if (overflow) return rt.Fail("int: the number is too large");
    if (read) return Value::Integer(*read);
    number = ParseFloat(input.text());
  } else if (input.is(Kind::kFloat)) {
    number = input.as_double();
  }
  if (!number || !std::isfinite(*number)) return fallback;
  const std::optional<Int> whole = FloatToInt(*number);
  return whole ? Value::Integer(*whole) : rt.Fail("int: the number is too large");
}

Value ToFloat(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "float", arguments, "default");
  if (!args.ok()) return Value();
  if (input.undefined()) return rt.FailUndefined(input);
  if (input.number()) return Value::Float(input.as_double());
  const std::optional<double> read = input.string() ? ParseFloat(input.text()) : std::nullopt;
  if (read) return Value::Float(*read);
  return args[0] != nullptr ? *args[0] : Value::Float(0);
}

Value Abs(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "abs", arguments, "");
  if (input.undefined()) return rt.FailUndefined(input);
  if (input.is(Kind::kFloat)) return Value::Float(std::fabs(input.as_double()));
  if (!input.integral())
    return rt.Fail(absl::StrCat("abs: expected a number, got ", rt.TypeName(input)));
  return input.as_int() < 0 ? rt.Negate(input) : Value::Integer(input.as_int());
}

/// round() to `digits` places: exact decimal expansion, halves of the binary value to even, as
/// CPython's dtoa does.
double RoundTo(double value, int digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0) {
    char buffer[700];
    std::snprintf(buffer, sizeof(buffer), "%.*f", digits, value);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, -digits);
  if (!std::isfinite(scale)) return std::copysign(0.0, value);
  return std::nearbyint(value / scale) * scale;
}

Value Round(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "round", arguments, "precision,method");
  if (!args.ok()) return Value();
  if (input.undefined()) return rt.FailUndefined(input);
  if (!input.number())
    return rt.Fail(absl::StrCat("round: expected a number, got ", rt.TypeName(input)));
  const std::string method = args.Text(1, "common");
  const int digits = static_cast<int>(std::clamp<Int>(args.Integer(0, 0), -400, 400));
  if (!args.ok()) return Value();
  if (method == "common") {
    if (input.integral()) {
      if (digits >= 0) return Value::Integer(input.as_int());
      Int scale = 1;
      for (int i = 0; i < -digits; ++i) {
        if (MulOverflows(scale, 10, &scale)) return Value::Integer(0);
      }
      const Int value = input.as_int();
      Int rest = value % scale;
      if (rest < 0) rest += scale;
      const Int low = value - rest;
      const bool up = rest * 2 > scale || (rest * 2 == scale && (low / scale) % 2 != 0);
      return Value::Integer(up ? low + scale : low);
    }
    return Value::Float(RoundTo(input.as_double(), digits));
  }
  if (method != "ceil" && method != "floor")
    return rt.Fail("round: the method is 'common', 'ceil' or 'floor'");
  const double scale = std::pow(10.0, digits);
  const double scaled = input.as_double() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value ToJsonFilter(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "tojson", arguments, "ensure_ascii,indent,separators,sort_keys");
  if (!args.ok()) return Value();
  JsonStyle style;
  style.ensure_ascii = args.Bool(0, false);
  style.sort_keys = args.Bool(3, false);
  if (args[1] != nullptr && !args[1]->none()) {
    if (args[1]->string()) {
      style.indent = args[1]->text();
    } else {
      const auto width = static_cast<int64_t>(std::clamp<Int>(args.Integer(1, 0), 0, Int{1} << 40));
      if (!args.ok() || !rt.FitsString(width, 1)) return Value();
      style.indent.emplace(static_cast<size_t>(width), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (args[2] != nullptr && !args[2]->none()) {
    const std::vector<Value> pair = rt.Iterate(*args[2]);
    if (pair.size() != 2 || !pair[0].string() || !pair[1].string()) {
      return rt.Fail("tojson: separators are two strings");
    }
    style.item_separator = pair[0].text();
    style.key_separator = pair[1].text();
  }
  return rt.NewString(ToJson(&rt, input, style));
}

Value Attr(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "attr", arguments, "name", 1);
  if (!args.ok()) return Value();
  const std::string name = args.Text(0, "");
  if (!args.ok()) return Value();
  // Attributes only: a dict's keys are not found this way.
  if (input.dict() && !HasMethod(input, name))
    return Value::Undefined(absl::StrCat("a dict has no attribute '", name, "'"));
  return rt.GetAttr(input, name);
}

Value Pprint(Runtime& rt, const Value& input, const CallArguments&) {
  return rt.NewString(rt.Repr(input));
}

Filter Find(std::string_view name) {
  for (const FilterTable* table : {&ValueFilters(), &TextFilters(), &SequenceFilters()}) {
    const auto found = table->find(name);
    if (found != table->end()) return found->second;
  }
  return nullptr;
}

}  // namespace

const FilterTable& ValueFilters() {
  static const FilterTable table = {
      {"default", Default},
      {"d", Default},
      {"length", LengthFilter},
      {"count", LengthFilter},
      {"int", ToInt},
      {"float", ToFloat},
      {"abs", Abs},
      {"round", Round},
      {"tojson", ToJsonFilter},
      {"attr", Attr},
      {"pprint", Pprint},
  };
  return table;
}

bool IsFilter(std::string_view name) { return Find(name) != nullptr; }

Value Runtime::CallFilter(const std::string& name, const Value& input,
                          const CallArguments& arguments) {
  if (!Charge(1)) return Value();
  const Filter filter = Find(name);
  if (filter == nullptr) return Fail(absl::StrCat("no filter named '", name, "'"));
  return filter(*this, input, arguments);
}

}  // namespace modu::text::jinja
