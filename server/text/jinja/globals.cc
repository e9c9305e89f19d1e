// The functions that a template finds by name: jinja2's safe ones, and the two that transformers
// adds.
#include <algorithm>
#include <ctime>
#include <map>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {
namespace {

constexpr Int kMaxRange = 100'000;  // jinja2's sandbox has the same

using Global = Value (*)(Runtime&, const CallArguments&);

Value Range(Runtime& rt, const CallArguments& arguments) {
  Bound args(&rt, "range", arguments, "start,stop,step", 1);
  if (!args.ok()) return Value();
  const bool one = args[1] == nullptr;
  const Int start = one ? 0 : args.Integer(0, 0);
  const Int stop = one ? args.Integer(0, 0) : args.Integer(1, 0);
  const Int step = args.Integer(2, 1);
  if (!args.ok()) return Value();
  if (step == 0) return rt.Fail("range: the step cannot be zero");
  Int distance = 0;
  if (SubOverflows(stop, start, &distance)) return rt.Fail("range is too large");
  if (step < 0 && SubOverflows(0, distance, &distance)) return rt.Fail("range is too large");
  const Int stride = step < 0 ? -step : step;
  const Int count = distance <= 0 ? 0 : (distance - 1) / stride + 1;
  if (count > kMaxRange)
    return rt.Fail(absl::StrCat("range is larger than the limit of ", IntToString(kMaxRange)));
  if (!rt.ChargeItems(static_cast<int64_t>(count))) return Value();
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (Int i = 0; i < count; ++i) items.push_back(Value::Integer(start + i * step));
  return rt.NewSequence(std::move(items), Flavor::kRange);
}

Value Dict(Runtime& rt, const CallArguments& arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) return rt.Fail("dict takes at most one positional argument");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.dict()) {
      items = source.map().items;
    } else {
      for (const Value& entry : rt.Iterate(source)) {
        std::vector<Value> pair = rt.Iterate(entry);
        if (rt.failed()) return Value();
        if (pair.size() != 2) return rt.Fail("dict: expected pairs");
        items.emplace_back(std::move(pair[0]), std::move(pair[1]));
      }
    }
  }
  for (const auto& [name, value] : arguments.named) items.emplace_back(Value::String(name), value);
  return rt.NewDict(std::move(items));
}

Value Namespace(Runtime& rt, const CallArguments& arguments) {
  const Value source = Dict(rt, arguments);
  if (rt.failed()) return Value();
  auto object = std::make_shared<NamespaceObject>();
  for (const auto& [key, value] : source.map().items)
    object->items.emplace_back(rt.Str(key), value);
  return Value::Of(Kind::kNamespace, std::move(object));
}

Value CyclerGlobal(Runtime& rt, const CallArguments& arguments) {
  if (arguments.positional.empty()) return rt.Fail("cycler needs at least one item");
  auto object = std::make_shared<CyclerObject>();
  object->items = arguments.positional;
  const Value cycler = Value::Of(Kind::kCycler, std::move(object));
  return cycler.depth() > rt.budget().max_depth ? rt.Fail("cycler: nested too deep") : cycler;
}

Value JoinerGlobal(Runtime& rt, const CallArguments& arguments) {
  Bound args(&rt, "joiner", arguments, "sep");
  auto object = std::make_shared<JoinerObject>();
  object->separator = args.ok() ? args.Text(0, ", ") : "";
  return Value::Of(Kind::kJoiner, std::move(object));
}

Value RaiseException(Runtime& rt, const CallArguments& arguments) {
  Bound args(&rt, "raise_exception", arguments, "message", 1);
  if (!args.ok()) return Value();
  std::string message = rt.Str(*args[0]);
  if (message.size() > 4096) message.resize(4096);
  rt.set_line(0);  // the template's own words, without a place in it
  return rt.Fail(message);
}

Value StrftimeNow(Runtime& rt, const CallArguments& arguments) {
  Bound args(&rt, "strftime_now", arguments, "format", 1);
  if (!args.ok()) return Value();
  const std::string format = args.Text(0, "");
  if (!args.ok()) return Value();
  if (format.size() > 256)
    return rt.Fail("strftime_now: the format is longer than the limit of 256 bytes");
  const time_t seconds = static_cast<time_t>(rt.now_unix_s());
  std::tm now{};
  if (gmtime_r(&seconds, &now) == nullptr) return rt.Fail("strftime_now: the time is out of range");
  char buffer[4096];
  // A leading character tells an empty result from one that does not fit.
  const size_t written = std::strftime(buffer, sizeof(buffer), ("x" + format).c_str(), &now);
  if (written == 0) return rt.Fail("strftime_now: the result is too long");
  return rt.NewString(std::string(buffer + 1, written - 1));
}

const std::map<std::string_view, Global>& Globals() {
  static const std::map<std::string_view, Global> table = {
      {"range", Range},
      {"dict", Dict},
      {"namespace", Namespace},
      {"cycler", CyclerGlobal},
      {"joiner", JoinerGlobal},
      {"raise_exception", RaiseException},
      {"strftime_now", StrftimeNow},
  };
  return table;
}

}  // namespace

bool IsGlobal(std::string_view name) { return Globals().count(name) > 0; }

Value Runtime::CallGlobal(const std::string& name, const CallArguments& arguments) {
  const auto found = Globals().find(name);
  if (found == Globals().end()) return Fail(absl::StrCat("no function named '", name, "'"));
  Value value = found->second(*this, arguments);
  if (value.is(Kind::kNamespace)) namespaces_.push_back(value.object());
  return value;
}

}  // namespace modu::text::jinja
