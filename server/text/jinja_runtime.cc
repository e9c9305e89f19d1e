#include "server/text/jinja_runtime.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/jinja_number.h"
#include "server/text/jinja_unicode.h"

namespace modu::text::jinja {
namespace {

// A render may hold this many times its output budget in strings and lists at once.
constexpr int64_t kLiveBytesPerOutputByte = 32;

bool IsText(const Value& value) { return value.string(); }

}  // namespace

Runtime::Runtime(const TemplateBudget& budget, int64_t now_unix_s)
    : budget_(budget), now_unix_s_(now_unix_s), live_at_start_(LiveBytes()) {}

Value Runtime::Fail(std::string_view message) {
  if (error_.ok()) {
    error_ = absl::InvalidArgumentError(
        line_ > 0 ? absl::StrCat("template line ", line_, ": ", std::string(message))
                  : std::string(message));
  }
  return Value();
}

Value Runtime::FailUndefined(const Value& undefined) { return Fail(undefined.undefined_message()); }

bool Runtime::Charge(int64_t steps) {
  if (failed()) return false;
  if (__builtin_add_overflow(steps_, steps, &steps_) || steps_ > budget_.max_steps) {
    error_ = absl::InvalidArgumentError(
        absl::StrCat("the template took more than the limit of ", budget_.max_steps, " steps"));
    return false;
  }
  if (LiveBytes() - live_at_start_ > budget_.max_output_bytes * kLiveBytesPerOutputByte) {
    error_ = absl::InvalidArgumentError("the template holds more text than its limit allows");
    return false;
  }
  return true;
}

bool Runtime::FitsString(int64_t count, int64_t bytes_each) {
  int64_t bytes = 0;
  if (count <= 0 || bytes_each <= 0) return !failed();
  if (__builtin_mul_overflow(count, bytes_each, &bytes) || bytes > budget_.max_output_bytes) {
    Fail(absl::StrCat("a string would be longer than the limit of ", budget_.max_output_bytes,
                      " bytes"));
    return false;
  }
  return ChargeBytes(bytes);
}

Value Runtime::NewString(std::string text, bool markup) {
  if (!FitsString(1, static_cast<int64_t>(text.size()))) return Value();
  return Value::String(std::move(text), markup);
}

Value Runtime::NewSequence(std::vector<Value> items, Flavor flavor) {
  if (!ChargeItems(static_cast<int64_t>(items.size()))) return Value();
  auto object = std::make_shared<SequenceObject>(std::move(items), flavor);
  if (object->depth > budget_.max_depth) {
    return Fail(absl::StrCat("a list is nested deeper than the limit of ", budget_.max_depth));
  }
  return Value::Of(Kind::kSequence, std::move(object));
}

Value Runtime::NewDict(std::vector<std::pair<Value, Value>> items) {
  std::vector<std::pair<Value, Value>> unique;
  unique.reserve(items.size());
  for (auto& [key, value] : items) {
    const bool hashable = !key.dict() && !(key.sequence() && key.seq().flavor == Flavor::kList);
    if (!hashable) return Fail(absl::StrCat("a ", TypeName(key), " cannot be a key"));
    if (!ChargeItems(static_cast<int64_t>(unique.size()))) return Value();
    auto same = std::find_if(unique.begin(), unique.end(),
                             [&](const auto& entry) { return Equal(entry.first, key); });
    if (same != unique.end()) {
      same->second = std::move(value);
    } else {
      unique.emplace_back(std::move(key), std::move(value));
    }
  }
  auto object = std::make_shared<DictObject>(std::move(unique));
  if (object->depth > budget_.max_depth) {
    return Fail(absl::StrCat("a dict is nested deeper than the limit of ", budget_.max_depth));
  }
  return Value::Of(Kind::kDict, std::move(object));
}

std::string Runtime::TypeName(const Value& value) const {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.markup() ? "Markup" : "str";
    case Kind::kSequence:
      switch (value.seq().flavor) {
        case Flavor::kList:
          return "list";
        case Flavor::kTuple:
          return "tuple";
        case Flavor::kRange:
          return "range";
        case Flavor::kKeys:
          return "dict_keys";
        case Flavor::kValues:
          return "dict_values";
        case Flavor::kItems:
          return "dict_items";
        case Flavor::kGenerator:
          return "generator";
      }
      return "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kFunction:
      return value.function().type == FunctionObject::Type::kMacro ? "Macro" : "function";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "object";
}

bool Runtime::Truthy(const Value& value) const {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_double() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kSequence:
      return value.seq().flavor == Flavor::kGenerator || !value.seq().items.empty();
    case Kind::kDict:
      return !value.map().items.empty();
    default:
      return true;
  }
}

bool Runtime::Equal(const Value& a, const Value& b) {
  if (!Charge(1)) return false;
  if (a.number() && b.number()) {
    if (a.integral() && b.integral()) return a.as_int() == b.as_int();
    return a.as_double() == b.as_double();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.identity() == b.identity() ||
             (a.text().size() == b.text().size() &&
              ChargeBytes(static_cast<int64_t>(a.text().size())) && a.text() == b.text());
    case Kind::kSequence: {
      if (a.identity() == b.identity()) return true;
      const auto& x = a.seq();
      const auto& y = b.seq();
      if (x.flavor != y.flavor || x.items.size() != y.items.size() ||
          x.flavor == Flavor::kGenerator || x.flavor == Flavor::kValues) {
        return false;
      }
      for (size_t i = 0; i < x.items.size() && !failed(); ++i) {
        if (!Equal(x.items[i], y.items[i])) return false;
      }
      return !failed();
    }
    case Kind::kDict: {
      if (a.identity() == b.identity()) return true;
      if (a.map().items.size() != b.map().items.size()) return false;
      for (const auto& [key, value] : a.map().items) {
        const Value* other = FindKey(b.map(), key);
        if (other == nullptr || !Equal(value, *other)) return false;
      }
      return !failed();
    }
    default:
      return a.identity() == b.identity();
  }
}

bool Runtime::Less(const Value& a, const Value& b) {
  if (!Charge(1)) return false;
  if (a.undefined()) return FailUndefined(a), false;
  if (b.undefined()) return FailUndefined(b), false;
  if (a.number() && b.number()) {
    if (a.integral() && b.integral()) return a.as_int() < b.as_int();
    return a.as_double() < b.as_double();
  }
  if (a.string() && b.string()) {
    ChargeBytes(static_cast<int64_t>(std::min(a.text().size(), b.text().size())));
    return a.text() < b.text();  // UTF-8 orders as code points do
  }
  if (a.sequence() && b.sequence() && a.seq().flavor == b.seq().flavor &&
      a.seq().flavor <= Flavor::kTuple) {
    const auto& x = a.seq().items;
    const auto& y = b.seq().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()) && !failed(); ++i) {
      if (!Equal(x[i], y[i])) return Less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  Fail(absl::StrCat("'<' is not supported between ", TypeName(a), " and ", TypeName(b)));
  return false;
}

const Value* Runtime::FindKey(const DictObject& dict, const Value& key) {
  if (!ChargeItems(static_cast<int64_t>(dict.items.size()) / 4)) return nullptr;
  if (key.string()) {
    for (const auto& [k, v] : dict.items) {
      if (k.string() && k.text() == key.text()) return &v;
    }
    return nullptr;
  }
  for (const auto& [k, v] : dict.items) {
    if (!k.string() && Equal(k, key)) return &v;
  }
  return nullptr;
}

bool Runtime::Contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (item.undefined()) return FailUndefined(item), false;
      if (!item.string()) {
        Fail(absl::StrCat("'in <string>' requires a string, not ", TypeName(item)));
        return false;
      }
      ChargeBytes(static_cast<int64_t>(container.text().size()));
      return container.text().find(item.text()) != std::string::npos;
    case Kind::kDict:
      if (item.dict() || (item.sequence() && item.seq().flavor == Flavor::kList)) {
        Fail(absl::StrCat("a ", TypeName(item), " cannot be a key"));
        return false;
      }
      return FindKey(container.map(), item) != nullptr;
    case Kind::kSequence: {
      const SequenceObject& seq = container.seq();
      size_t i = seq.flavor == Flavor::kGenerator ? seq.consumed : 0;
      bool found = false;
      for (; i < seq.items.size() && !found && !failed(); ++i) {
        found = seq.items[i].identity() != nullptr && seq.items[i].identity() == item.identity();
        found = found || Equal(seq.items[i], item);
      }
      if (seq.flavor == Flavor::kGenerator) seq.consumed = i;
      return found;
    }
    default:
      Fail(absl::StrCat("'in' is not supported for ", TypeName(container)));
      return false;
  }
}

int64_t Runtime::Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.str().length;
    case Kind::kDict:
      return static_cast<int64_t>(value.map().items.size());
    case Kind::kSequence:
      if (value.seq().flavor != Flavor::kGenerator)
        return static_cast<int64_t>(value.seq().items.size());
      break;
    case Kind::kLoop:
      return static_cast<int64_t>(value.loop().items.size());
    default:
      break;
  }
  Fail(absl::StrCat("a ", TypeName(value), " has no length"));
  return 0;
}

std::vector<Value> Runtime::Iterate(const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      break;
    case Kind::kString: {
      const std::string& text = value.text();
      if (!ChargeItems(value.str().length)) break;
      items.reserve(static_cast<size_t>(value.str().length));
      for (size_t i = 0; i < text.size() && !failed();) {
        const size_t n = CharBytes(text, i);
        items.push_back(Value::String(text.substr(i, n)));
        if (items.size() % 1024 == 0) Charge(128);  // the memory check; a character costs an object
        i += n;
      }
      break;
    }
    case Kind::kSequence: {
      const SequenceObject& seq = value.seq();
      if (!ChargeItems(static_cast<int64_t>(seq.items.size()))) break;
      if (seq.flavor == Flavor::kGenerator) {
        items.assign(seq.items.begin() + static_cast<int64_t>(seq.consumed), seq.items.end());
        seq.consumed = seq.items.size();
      } else {
        items = seq.items;
      }
      break;
    }
    case Kind::kDict:
      if (!ChargeItems(static_cast<int64_t>(value.map().items.size()))) break;
      for (const auto& entry : value.map().items) items.push_back(entry.first);
      break;
    default:
      Fail(absl::StrCat("a ", TypeName(value), " cannot be iterated"));
      break;
  }
  return items;
}

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
  if (!sliceable) return Undefined(object, Value::None());
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

// str and repr
// ---------------------------------------------------------------------------------------------------

void Runtime::ReprTo(const Value& value, std::string* out) {
  if (!Charge(1)) return;
  if (static_cast<int64_t>(out->size()) > budget_.max_output_bytes) {
    FitsString(1, static_cast<int64_t>(out->size()));
    return;
  }
  switch (value.kind()) {
    case Kind::kUndefined:
      out->append("Undefined");
      return;
    case Kind::kNone:
      out->append("None");
      return;
    case Kind::kBool:
      out->append(value.as_bool() ? "True" : "False");
      return;
    case Kind::kInt:
      out->append(IntToString(value.as_int()));
      return;
    case Kind::kFloat:
      out->append(FloatToString(value.as_double()));
      return;
    case Kind::kString: {
      const std::string& text = value.text();
      ChargeBytes(static_cast<int64_t>(text.size()));
      const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
      const char quote = doubled ? '"' : '\'';
      if (value.markup()) out->append("Markup(");
      out->push_back(quote);
      for (size_t i = 0; i < text.size();) {
        size_t n = 0;
        const char32_t c = DecodeChar(text, i, &n);
        if (c == static_cast<char32_t>(quote) || c == U'\\') {
          out->push_back('\\');
          out->push_back(static_cast<char>(c));
        } else if (c == U'\n' || c == U'\r' || c == U'\t') {
          out->append(c == U'\n' ? "\\n" : c == U'\r' ? "\\r" : "\\t");
        } else if (IsPrintable(c)) {
          out->append(text, i, n);
        } else {
          const std::string hex = IntToString(static_cast<Int>(c), 16);
          const size_t width = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
          absl::StrAppend(out,
                          c < 0x100     ? "\\x"
                          : c < 0x10000 ? "\\u"
                                        : "\\U",
                          std::string(width - hex.size(), '0'), hex);
        }
        i += n;
      }
      out->push_back(quote);
      if (value.markup()) out->push_back(')');
      return;
    }
    case Kind::kSequence: {
      const SequenceObject& seq = value.seq();
      if (seq.flavor == Flavor::kGenerator) {
        out->append("<generator object>");
        return;
      }
      if (seq.flavor == Flavor::kRange) {
        // range(start, stop) with the step only where it is not 1, from the items that are left of
        // it.
        const Int first = seq.items.empty() ? 0 : seq.items.front().as_int();
        const Int step = seq.items.size() < 2 ? 1 : seq.items[1].as_int() - first;
        const Int stop = seq.items.empty() ? 0 : seq.items.back().as_int() + (step > 0 ? 1 : -1);
        absl::StrAppend(out, "range(", IntToString(first), ", ", IntToString(stop));
        if (step != 1) absl::StrAppend(out, ", ", IntToString(step));
        out->push_back(')');
        return;
      }
      const bool tuple = seq.flavor == Flavor::kTuple;
      const bool view = seq.flavor > Flavor::kTuple;
      if (view) absl::StrAppend(out, TypeName(value), "(");
      out->push_back(tuple ? '(' : '[');
      for (size_t i = 0; i < seq.items.size() && !failed(); ++i) {
        if (i > 0) out->append(", ");
        ReprTo(seq.items[i], out);
      }
      if (tuple && seq.items.size() == 1) out->push_back(',');
      out->push_back(tuple ? ')' : ']');
      if (view) out->push_back(')');
      return;
    }
    case Kind::kDict: {
      out->push_back('{');
      bool first = true;
      for (const auto& [key, item] : value.map().items) {
        if (failed()) return;
        if (!std::exchange(first, false)) out->append(", ");
        ReprTo(key, out);
        out->append(": ");
        ReprTo(item, out);
      }
      out->push_back('}');
      return;
    }
    case Kind::kNamespace:
      out->append("<Namespace>");
      return;
    case Kind::kFunction:
      absl::StrAppend(out, "<", TypeName(value), " '", value.function().name, "'>");
      return;
    case Kind::kLoop:
      absl::StrAppend(out, "<LoopContext ", value.loop().index + 1, "/", value.loop().items.size(),
                      ">");
      return;
    case Kind::kCycler:
      out->append("<Cycler>");
      return;
    case Kind::kJoiner:
      out->append("<Joiner>");
      return;
  }
}

std::string Runtime::Repr(const Value& value) {
  std::string out;
  ReprTo(value, &out);
  return out;
}

std::string Runtime::Str(const Value& value) {
  if (value.string()) return value.text();
  if (value.undefined()) return "";
  return Repr(value);
}

// Operators
// ------------------------------------------------------------------------------------------------------

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
  if (IsText(a) && IsText(b)) {
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

// Arguments
// ------------------------------------------------------------------------------------------------------

Bound::Bound(Runtime* runtime, std::string_view what, const CallArguments& arguments,
             std::string_view names, size_t required)
    : runtime_(runtime),
      what_(what),
      names_(absl::StrSplit(std::string(names), ',', absl::SkipEmpty())) {
  values_.resize(names_.size() + 1, nullptr);
  if (arguments.positional.size() > names_.size()) {
    runtime->Fail(absl::StrCat("'", what_, "' takes at most ", names_.size(), " arguments"));
    ok_ = false;
    return;
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    const size_t index = static_cast<size_t>(found - names_.begin());
    if (found == names_.end() || values_[index] != nullptr) {
      runtime->Fail(absl::StrCat("'", what_, "' got an unexpected argument '", name, "'"));
      ok_ = false;
      return;
    }
    values_[index] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      runtime->Fail(absl::StrCat("'", what_, "' needs the argument '", names_[i], "'"));
      ok_ = false;
      return;
    }
  }
}

bool Bound::Bool(size_t index, bool fallback) const {
  return values_[index] == nullptr ? fallback : runtime_->Truthy(*values_[index]);
}

Int Bound::Integer(size_t index, Int fallback) {
  const Value* value = values_[index];
  if (value == nullptr) return fallback;
  if (value->integral()) return value->as_int();
  runtime_->Fail(absl::StrCat("'", what_, "': '", names_[index], "' must be an integer"));
  ok_ = false;
  return fallback;
}

std::string Bound::Text(size_t index, std::string_view fallback) {
  const Value* value = values_[index];
  if (value == nullptr) return std::string(fallback);
  if (value->string()) return value->text();
  runtime_->Fail(absl::StrCat("'", what_, "': '", names_[index], "' must be a string"));
  ok_ = false;
  return std::string(fallback);
}

}  // namespace modu::text::jinja
