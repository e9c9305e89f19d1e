#include "server/text/jinja/runtime.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

// A render may hold this many times its output budget in strings and lists at once.
constexpr int64_t kLiveBytesPerOutputByte = 32;

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

}  // namespace modu::text::jinja
