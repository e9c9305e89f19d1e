// Attributes, items and slices.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {

Value Runtime::Undefined(const Value& object, const Value& name) {
  if (object.undefined()) return FailUndefined(object);
  const std::string type = object.none() ? "None" : absl::StrCat(TypeName(object), " object");
  return Value::Undefined(name.string() && name.text().size() < 200
                              ? absl::StrCat("'", type, "' has no attribute '", name.text(), "'")
                              : absl::StrCat("'", type, "' has no such element"));
}

Value Runtime::GetAttr(const Value& object, const std::string& name) {
  if (object.undefined()) return FailUndefined(object);
  if (object.is(Kind::kNamespace)) {
    for (const auto& [key, value] : object.ns().items) {
      if (key == name) return value;
    }
    return Value::Undefined(absl::StrCat("the namespace has no attribute '", name, "'"));
  }
  if (object.is(Kind::kLoop)) {
    const LoopObject& loop = object.loop();
    const auto length = static_cast<int64_t>(loop.items.size());
    if (name == "index") return Value::Integer(loop.index + 1);
    if (name == "index0") return Value::Integer(loop.index);
    if (name == "revindex") return Value::Integer(length - loop.index);
    if (name == "revindex0") return Value::Integer(length - loop.index - 1);
    if (name == "first") return Value::Bool(loop.index == 0);
    if (name == "last") return Value::Bool(loop.index + 1 == length);
    if (name == "length") return Value::Integer(length);
    if (name == "depth") return Value::Integer(loop.depth);
    if (name == "depth0") return Value::Integer(loop.depth - 1);
    if (name == "previtem") {
      return loop.index > 0 ? loop.items[static_cast<size_t>(loop.index - 1)]
                            : Value::Undefined("there is no previous item");
    }
    if (name == "nextitem") {
      return loop.index + 1 < length ? loop.items[static_cast<size_t>(loop.index + 1)]
                                     : Value::Undefined("there is no next item");
    }
  }
  if (object.is(Kind::kCycler) && name == "current") {
    return object.cycler().items[object.cycler().position];
  }
  if (object.is(Kind::kFunction) && object.function().type == FunctionObject::Type::kMacro &&
      name == "name") {
    return NewString(object.function().name);
  }
  if (object.dict()) {
    for (const std::string_view changing : {"clear", "pop", "popitem", "setdefault", "update"}) {
      if (name == changing)
        return Value::Undefined(absl::StrCat("'", name, "' would change a dict: not allowed"));
    }
  }
  if (object.sequence() && object.seq().flavor == Flavor::kList) {
    for (const std::string_view changing :
         {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}) {
      if (name == changing)
        return Value::Undefined(absl::StrCat("'", name, "' would change a list: not allowed"));
    }
  }
  if (HasMethod(object, name)) {
    auto method = std::make_shared<FunctionObject>();
    method->type = FunctionObject::Type::kMethod;
    method->name = name;
    method->self = object;
    return Value::Of(Kind::kFunction, std::move(method));
  }
  if (object.dict()) {
    if (const Value* found = FindKey(object.map(), Value::String(name))) return *found;
  }
  return Undefined(object, Value::String(name));
}

Value Runtime::GetItem(const Value& object, const Value& index) {
  if (object.undefined()) return FailUndefined(object);
  if (object.dict()) {
    if (const Value* found = FindKey(object.map(), index)) return *found;
  } else if (index.integral() &&
             (object.string() || (object.sequence() && object.seq().indexable()))) {
    const int64_t length = Length(object);
    Int i = index.as_int();
    if (i < 0) i += length;
    if (i >= 0 && i < length) {
      const auto at = static_cast<int64_t>(i);
      if (object.sequence()) return object.seq().items[static_cast<size_t>(at)];
      const std::string& text = object.text();
      if (object.str().ascii())
        return Value::String(text.substr(static_cast<size_t>(at), 1), object.markup());
      ChargeBytes(static_cast<int64_t>(text.size()));
      const size_t offset = OffsetOf(text, at);
      return Value::String(text.substr(offset, CharBytes(text, offset)), object.markup());
    }
    return Value::Undefined(absl::StrCat("'", TypeName(object), " object' has no element ",
                                         IntToString(index.as_int())));
  }
  if (index.undefined() && !object.dict()) return Undefined(object, index);
  if (index.string()) {
    if (object.dict()) {
      // The key was looked up above; what is left are methods, without a second search.
      if (!HasMethod(object, index.text())) return Undefined(object, index);
    }
    return GetAttr(object, index.text());
  }
  return Undefined(object, index);
}

Value Runtime::GetPath(const Value& object, const Value& path) {
  if (!path.string()) return GetItem(object, path);
  Value item = object;
  for (const auto& split : absl::StrSplit(path.text(), '.')) {
    const std::string part(split);
    if (failed()) break;
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    bool overflow = false;
    const std::optional<Int> number = digits ? ParseInt(part, 10, &overflow) : std::nullopt;
    item = GetItem(item, number && !overflow ? Value::Integer(*number) : Value::String(part));
  }
  return item;
}

bool Runtime::SliceBounds(const Value& start, const Value& stop, const Value& step, int64_t length,
                          int64_t* begin, int64_t* end, int64_t* stride) {
  for (const Value* value : {&start, &stop, &step}) {
    if (value->undefined()) return FailUndefined(*value), false;
    if (!value->none() && !value->integral())
      return Fail("slice indices must be integers or none"), false;
  }
  const auto clamp = [](Int value, int64_t low, int64_t high) {
    return static_cast<int64_t>(std::max<Int>(low, std::min<Int>(value, high)));
  };
  *stride = step.none() ? 1 : clamp(step.as_int(), -(int64_t{1} << 62), int64_t{1} << 62);
  if (*stride == 0) return Fail("slice step cannot be zero"), false;
  const int64_t low = *stride > 0 ? 0 : -1;
  const int64_t high = *stride > 0 ? length : length - 1;
  const auto bound = [&](const Value& value, int64_t fallback) {
    if (value.none()) return fallback;
    Int i = value.as_int();
    if (i < 0) i += length;
    return clamp(i, low, high);
  };
  *begin = bound(start, *stride > 0 ? low : high);
  *end = bound(stop, *stride > 0 ? high : low);
  return true;
}

Value Runtime::Slice(const Value& object, const Value& start, const Value& stop,
                     const Value& step) {
  if (object.undefined()) return FailUndefined(object);
  const bool sliceable = object.string() || (object.sequence() && object.seq().indexable());
  if (!sliceable) return Fail(absl::StrCat("a ", TypeName(object), " has no slices"));
  int64_t begin = 0, end = 0, stride = 1;
  if (!SliceBounds(start, stop, step, Length(object), &begin, &end, &stride)) return Value();
  if (object.string()) {
    const std::string& text = object.text();
    ChargeBytes(static_cast<int64_t>(text.size()));
    if (stride == 1) {
      if (begin >= end) return NewString("", object.markup());
      if (object.str().ascii()) {
        return NewString(text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
                         object.markup());
      }
      const size_t from = OffsetOf(text, begin);
      const size_t bytes = OffsetOf(std::string_view(text).substr(from), end - begin);
      return NewString(text.substr(from, bytes), object.markup());
    }
    std::vector<size_t> offsets;
    if (!ChargeItems(object.str().length)) return Value();
    for (size_t i = 0; i < text.size(); i += CharBytes(text, i)) offsets.push_back(i);
    offsets.push_back(text.size());
    std::string out;
    for (int64_t i = begin; stride > 0 ? i < end : i > end; i += stride) {
      const auto at = static_cast<size_t>(i);
      out.append(text, offsets[at], offsets[at + 1] - offsets[at]);
    }
    return NewString(std::move(out), object.markup());
  }
  std::vector<Value> items;
  for (int64_t i = begin; stride > 0 ? i < end : i > end; i += stride) {
    items.push_back(object.seq().items[static_cast<size_t>(i)]);
  }
  return NewSequence(std::move(items), object.seq().flavor);
}

}  // namespace modu::text::jinja
