#include "server/text/jinja/value.h"

#include <algorithm>

#include "kernels/check.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

thread_local int64_t live_bytes = 0;

int DepthOf(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

}  // namespace

int64_t LiveBytes() { return live_bytes; }

Object::~Object() { live_bytes -= accounted_; }

void Object::Account(int64_t bytes) {
  accounted_ += bytes;
  live_bytes += bytes;
}

StringObject::StringObject(std::string value, bool is_markup)
    : text(std::move(value)), length(CountCodePoints(text)), markup(is_markup) {
  Account(static_cast<int64_t>(text.size() + sizeof(StringObject)));
}

SequenceObject::SequenceObject(std::vector<Value> values, Flavor kind)
    : items(std::move(values)), flavor(kind), depth(DepthOf(items)) {
  Account(static_cast<int64_t>(items.size() * sizeof(Value) + sizeof(SequenceObject)));
}

DictObject::DictObject(std::vector<std::pair<Value, Value>> values) : items(std::move(values)) {
  int inner = 0;
  for (const auto& [key, value] : items) {
    inner = std::max({inner, key.depth(), value.depth()});
  }
  depth = inner + 1;
  Account(static_cast<int64_t>(items.size() * 2 * sizeof(Value) + sizeof(DictObject)));
}

Value Value::Bool(bool b) {
  Value value(Kind::kBool);
  value.i_ = b ? 1 : 0;
  return value;
}

Value Value::Integer(Int i) {
  Value value(Kind::kInt);
  value.i_ = i;
  return value;
}

Value Value::Float(double f) {
  Value value(Kind::kFloat);
  value.f_ = f;
  return value;
}

Value Value::Of(Kind kind, std::shared_ptr<Object> object) {
  Value value(kind);
  value.object_ = std::move(object);
  return value;
}

Value Value::String(std::string text, bool markup) {
  return Of(Kind::kString, std::make_shared<StringObject>(std::move(text), markup));
}

Value Value::Undefined(std::string message) {
  return Of(Kind::kUndefined, std::make_shared<StringObject>(std::move(message), false));
}

Value Value::List(std::vector<Value> items) {
  return Of(Kind::kSequence, std::make_shared<SequenceObject>(std::move(items), Flavor::kList));
}

Value Value::Tuple(std::vector<Value> items) {
  return Of(Kind::kSequence, std::make_shared<SequenceObject>(std::move(items), Flavor::kTuple));
}

Value Value::Generator(std::vector<Value> items) {
  return Of(Kind::kSequence,
            std::make_shared<SequenceObject>(std::move(items), Flavor::kGenerator));
}

const StringObject& Value::str() const {
  MODU_CHECK(kind_ == Kind::kString);
  return static_cast<const StringObject&>(*object_);
}

const std::string& Value::text() const { return str().text; }
bool Value::markup() const { return kind_ == Kind::kString && str().markup; }

const SequenceObject& Value::seq() const {
  MODU_CHECK(kind_ == Kind::kSequence);
  return static_cast<const SequenceObject&>(*object_);
}

const DictObject& Value::map() const {
  MODU_CHECK(kind_ == Kind::kDict);
  return static_cast<const DictObject&>(*object_);
}

NamespaceObject& Value::ns() const {
  MODU_CHECK(kind_ == Kind::kNamespace);
  return static_cast<NamespaceObject&>(*object_);
}

FunctionObject& Value::function() const {
  MODU_CHECK(kind_ == Kind::kFunction);
  return static_cast<FunctionObject&>(*object_);
}

LoopObject& Value::loop() const {
  MODU_CHECK(kind_ == Kind::kLoop);
  return static_cast<LoopObject&>(*object_);
}

CyclerObject& Value::cycler() const {
  MODU_CHECK(kind_ == Kind::kCycler);
  return static_cast<CyclerObject&>(*object_);
}

JoinerObject& Value::joiner() const {
  MODU_CHECK(kind_ == Kind::kJoiner);
  return static_cast<JoinerObject&>(*object_);
}

const std::string& Value::undefined_message() const {
  static const std::string kNameless = "value is undefined";
  return object_ ? static_cast<const StringObject&>(*object_).text : kNameless;
}

int Value::depth() const {
  if (kind_ == Kind::kSequence) return seq().depth;
  if (kind_ == Kind::kDict) return map().depth;
  if (kind_ == Kind::kFunction) return function().self.depth() + 1;
  if (kind_ == Kind::kCycler) return DepthOf(cycler().items);
  // A namespace changes after it is put somewhere, so what holds one counts as flat; walks never
  // enter it.
  return 0;
}

const Value* Scope::Find(int name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& entry : scope->names) {
      if (entry.first == name) return &entry.second;
    }
  }
  return nullptr;
}

void Scope::Set(int name, Value value) {
  for (auto& entry : names) {
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  }
  names.emplace_back(name, std::move(value));
}

}  // namespace modu::text::jinja
