// + - * and the like, and the escaping that + and ~ do on markup.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

Value Runtime::Add(const Value& a, const Value& b) {
  if (a.string() && b.string()) {
    const auto bytes = static_cast<int64_t>(a.text().size() + b.text().size());
    if (!FitsString(1, bytes)) return Value();
    if (a.markup() == b.markup()) return Value::String(a.text() + b.text(), a.markup());
    // Markup is a string that escapes what is added to it, as markupsafe does.
    return NewString(a.markup() ? a.text() + EscapeHtml(b.text()) : EscapeHtml(a.text()) + b.text(),
                     true);
  }
  if (a.sequence() && b.sequence() && a.seq().flavor == b.seq().flavor &&
      a.seq().flavor <= Flavor::kTuple) {
    std::vector<Value> items = a.seq().items;
    items.insert(items.end(), b.seq().items.begin(), b.seq().items.end());
    return NewSequence(std::move(items), a.seq().flavor);
  }
  return Fail(absl::StrCat("'+' is not supported between ", TypeName(a), " and ", TypeName(b)));
}

Value Runtime::Repeat(const Value& value, Int count) {
  const auto times = static_cast<int64_t>(std::max<Int>(0, std::min<Int>(count, Int{1} << 62)));
  if (value.string()) {
    if (!FitsString(times, static_cast<int64_t>(value.text().size()))) return Value();
    std::string out;
    if (!value.text().empty()) {
      for (int64_t i = 0; i < times; ++i) out += value.text();
    }
    return NewString(std::move(out), value.markup());
  }
  int64_t total = 0;
  const auto size = static_cast<int64_t>(value.seq().items.size());
  if (__builtin_mul_overflow(times, size, &total) || !ChargeItems(total)) {
    return Fail("a repeated list would be longer than the limit of steps");
  }
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(total));
  for (int64_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), value.seq().items.begin(), value.seq().items.end());
  }
  return NewSequence(std::move(items), value.seq().flavor);
}

Value Runtime::Negate(const Value& value) {
  if (value.undefined()) return FailUndefined(value);
  if (value.is(Kind::kFloat)) return Value::Float(-value.as_double());
  if (value.integral()) {
    Int out = 0;
    return SubOverflows(0, value.as_int(), &out) ? Fail("an integer is too large")
                                                 : Value::Integer(out);
  }
  return Fail(absl::StrCat("unary '-' is not supported for ", TypeName(value)));
}

Value Runtime::Binary(std::string_view op, const Value& a, const Value& b) {
  if (!Charge(1)) return Value();
  // str % args comes before the check for undefined operands: 'x %s' % undefined prints nothing.
  if (op == "%" && a.string()) {
    CallArguments arguments;
    arguments.positional.push_back(b);
    return CallMethod(a, "__mod__", arguments);
  }
  if (a.undefined()) return FailUndefined(a);
  if (b.undefined()) return FailUndefined(b);
  if (a.number() && b.number()) return Arithmetic(op, a, b);
  if (op == "+") return Add(a, b);
  if (op == "*") {
    const auto repeatable = [](const Value& v) {
      return v.string() || (v.sequence() && v.seq().flavor <= Flavor::kTuple);
    };
    if (repeatable(a) && b.integral()) return Repeat(a, b.as_int());
    if (repeatable(b) && a.integral()) return Repeat(b, a.as_int());
  }
  return Fail(absl::StrCat("'", std::string(op), "' is not supported between ", TypeName(a),
                           " and ", TypeName(b)));
}

}  // namespace modu::text::jinja
