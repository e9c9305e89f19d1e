// The tests after `is`.
#include <map>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

using Test = bool (*)(Runtime&, const Value&, const Value* argument);

template <Kind kKind>
bool IsKind(Runtime&, const Value& value, const Value*) {
  return value.is(kKind);
}

bool Defined(Runtime&, const Value& value, const Value*) { return !value.undefined(); }
bool True(Runtime&, const Value& value, const Value*) {
  return value.is(Kind::kBool) && value.as_bool();
}
bool False(Runtime&, const Value& value, const Value*) {
  return value.is(Kind::kBool) && !value.as_bool();
}
bool Number(Runtime&, const Value& value, const Value*) { return value.number(); }

bool Sequence(Runtime&, const Value& value, const Value*) {
  return value.string() || value.dict() || value.undefined() ||
         (value.sequence() && value.seq().indexable());
}

bool Iterable(Runtime&, const Value& value, const Value*) {
  return value.string() || value.dict() || value.undefined() || value.sequence() ||
         value.is(Kind::kLoop);
}

bool Callable(Runtime&, const Value& value, const Value*) {
  return value.is(Kind::kFunction) || value.is(Kind::kLoop) || value.is(Kind::kJoiner);
}

bool Divisible(Runtime& rt, const Value& value, const Value& by) {
  const Value rest = rt.Binary("%", value, by);
  return !rt.failed() && rest.number() && rest.as_double() == 0;
}

bool Odd(Runtime& rt, const Value& value, const Value*) {
  const Value rest = rt.Binary("%", value, Value::Integer(2));
  return !rt.failed() && rest.number() && rest.as_double() == 1;
}

bool Even(Runtime& rt, const Value& value, const Value*) {
  return Divisible(rt, value, Value::Integer(2));
}
bool DivisibleBy(Runtime& rt, const Value& value, const Value* by) {
  return Divisible(rt, value, *by);
}
bool Equal(Runtime& rt, const Value& a, const Value* b) { return rt.Equal(a, *b); }
bool NotEqual(Runtime& rt, const Value& a, const Value* b) { return !rt.Equal(a, *b); }
bool Less(Runtime& rt, const Value& a, const Value* b) { return rt.Less(a, *b); }
bool Greater(Runtime& rt, const Value& a, const Value* b) { return rt.Less(*b, a); }
bool LessOrEqual(Runtime& rt, const Value& a, const Value* b) {
  return rt.Less(a, *b) || rt.Equal(a, *b);
}
bool GreaterOrEqual(Runtime& rt, const Value& a, const Value* b) {
  return rt.Less(*b, a) || rt.Equal(a, *b);
}
bool In(Runtime& rt, const Value& a, const Value* b) { return rt.Contains(*b, a); }

bool SameAs(Runtime& rt, const Value& a, const Value* b) {
  if (a.kind() != b->kind()) return false;
  if (a.none()) return true;
  if (a.number()) return rt.Equal(a, *b);
  return a.identity() == b->identity() || (a.string() && a.text() == b->text());
}

template <bool kUpper>
bool Case(Runtime& rt, const Value& value, const Value*) {
  const Value text = Value::String(rt.Str(value));
  return rt.Truthy(rt.CallMethod(text, kUpper ? "isupper" : "islower", {}));
}

bool Escaped(Runtime&, const Value& value, const Value*) { return value.markup(); }
bool FilterName(Runtime&, const Value& value, const Value*) {
  return value.string() && IsFilter(value.text());
}
bool TestName(Runtime&, const Value& value, const Value*) {
  return value.string() && IsTest(value.text());
}

struct Entry {
  Test test;
  size_t arguments;
};

const std::map<std::string_view, Entry>& Tests() {
  static const std::map<std::string_view, Entry> table = {
      {"defined", {Defined, 0}},
      {"undefined", {IsKind<Kind::kUndefined>, 0}},
      {"none", {IsKind<Kind::kNone>, 0}},
      {"boolean", {IsKind<Kind::kBool>, 0}},
      {"true", {True, 0}},
      {"false", {False, 0}},
      {"integer", {IsKind<Kind::kInt>, 0}},
      {"float", {IsKind<Kind::kFloat>, 0}},
      {"number", {Number, 0}},
      {"string", {IsKind<Kind::kString>, 0}},
      {"mapping", {IsKind<Kind::kDict>, 0}},
      {"sequence", {Sequence, 0}},
      {"iterable", {Iterable, 0}},
      {"callable", {Callable, 0}},
      {"odd", {Odd, 0}},
      {"even", {Even, 0}},
      {"divisibleby", {DivisibleBy, 1}},
      {"lower", {Case<false>, 0}},
      {"upper", {Case<true>, 0}},
      {"escaped", {Escaped, 0}},
      {"filter", {FilterName, 0}},
      {"test", {TestName, 0}},
      {"sameas", {SameAs, 1}},
      {"in", {In, 1}},
      {"eq", {Equal, 1}},
      {"equalto", {Equal, 1}},
      {"==", {Equal, 1}},
      {"ne", {NotEqual, 1}},
      {"!=", {NotEqual, 1}},
      {"lt", {Less, 1}},
      {"lessthan", {Less, 1}},
      {"<", {Less, 1}},
      {"le", {LessOrEqual, 1}},
      {"<=", {LessOrEqual, 1}},
      {"gt", {Greater, 1}},
      {"greaterthan", {Greater, 1}},
      {">", {Greater, 1}},
      {"ge", {GreaterOrEqual, 1}},
      {">=", {GreaterOrEqual, 1}},
  };
  return table;
}

}  // namespace

bool IsTest(std::string_view name) { return Tests().count(name) > 0; }

bool Runtime::CallTest(const std::string& name, const Value& input,
                       const CallArguments& arguments) {
  if (!Charge(1)) return false;
  const auto found = Tests().find(name);
  if (found == Tests().end()) return Fail(absl::StrCat("no test named '", name, "'")), false;
  const size_t given = arguments.positional.size() + arguments.named.size();
  if (given != found->second.arguments) {
    Fail(absl::StrCat("test '", name, "' takes ", found->second.arguments, " arguments, got ",
                      given));
    return false;
  }
  const Value* argument = given == 0                     ? nullptr
                          : arguments.positional.empty() ? &arguments.named[0].second
                                                         : &arguments.positional[0];
  const bool passes = found->second.test(*this, input, argument);
  return passes && !failed();
}

}  // namespace modu::text::jinja
