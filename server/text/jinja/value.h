// Values of a template at run time: Python's None, bool, int, float, str, list, tuple, dict as far
// as templates see them, and Jinja's own (undefined, namespace, macro, loop). Immutable but for
// namespaces, loops and consumed generators. A value belongs to one render; constants of a parsed
// template are shared by all and never changed. Bytes held by live objects are counted per thread,
// so that a render can bound what it holds.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace modu::text::jinja {

// Python's ints are unbounded; 127 bits hold every number that JSON tools write. Past it is an
// error, never a wrap.
__extension__ typedef __int128 Int;

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kNamespace,
  kFunction,
  kLoop,
  kCycler,
  kJoiner
};

int64_t LiveBytes();  // of this thread's objects

class Object {
 public:
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

 protected:
  Object() = default;
  void Account(int64_t bytes);

 private:
  int64_t accounted_ = 0;
};

struct StringObject;
struct SequenceObject;
struct DictObject;
struct NamespaceObject;
struct FunctionObject;
struct LoopObject;
struct CyclerObject;
struct JoinerObject;

class Value {
 public:
  Value() = default;  // undefined without a name
  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool b);
  static Value Integer(Int i);
  static Value Float(double f);
  static Value String(std::string text, bool markup = false);
  /// `message` is the error that using the value gives.
  static Value Undefined(std::string message);
  static Value Of(Kind kind, std::shared_ptr<Object> object);
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);
  static Value Generator(std::vector<Value> items);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool undefined() const { return kind_ == Kind::kUndefined; }
  bool none() const { return kind_ == Kind::kNone; }
  bool string() const { return kind_ == Kind::kString; }
  bool sequence() const { return kind_ == Kind::kSequence; }
  bool dict() const { return kind_ == Kind::kDict; }
  bool integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool number() const { return integral() || kind_ == Kind::kFloat; }

  bool as_bool() const { return i_ != 0; }
  Int as_int() const { return i_; }  // of bool and int
  double as_double() const { return kind_ == Kind::kFloat ? f_ : static_cast<double>(i_); }
  const std::string& text() const;  // of string
  bool markup() const;
  const StringObject& str() const;
  const SequenceObject& seq() const;
  const DictObject& map() const;
  NamespaceObject& ns() const;
  FunctionObject& function() const;
  LoopObject& loop() const;
  CyclerObject& cycler() const;
  JoinerObject& joiner() const;
  const std::string& undefined_message() const;
  const Object* identity() const { return object_.get(); }
  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const;  // nesting of containers; 0 for scalars

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Kind kind_ = Kind::kUndefined;
  union {
    Int i_ = 0;
    double f_;
  };
  std::shared_ptr<Object> object_;
};

struct StringObject final : Object {
  StringObject(std::string text, bool markup);
  const std::string text;
  const int64_t length;  // code points
  const bool markup;     // jinja2's Markup: came from |safe or |escape
  bool ascii() const { return length == static_cast<int64_t>(text.size()); }
};

enum class Flavor : uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

struct SequenceObject final : Object {
  SequenceObject(std::vector<Value> items, Flavor flavor);
  const std::vector<Value> items;
  const Flavor flavor;
  int depth = 1;
  mutable size_t consumed = 0;  // generators give each item once
  bool indexable() const { return flavor <= Flavor::kRange; }
};

struct DictObject final : Object {
  explicit DictObject(std::vector<std::pair<Value, Value>> items);
  const std::vector<std::pair<Value, Value>> items;  // in order of insertion; keys unique
  int depth = 1;
};

struct NamespaceObject final : Object {
  NamespaceObject() { Account(256); }
  std::vector<std::pair<std::string, Value>> items;
};

struct CyclerObject final : Object {
  std::vector<Value> items;
  size_t position = 0;
};

struct JoinerObject final : Object {
  std::string separator;
  bool used = false;
};

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Node;
struct Scope;

struct FunctionObject final : Object {
  enum class Type : uint8_t { kMacro, kMethod, kGlobal };
  Type type = Type::kGlobal;
  std::string name;              // of the macro, method or global
  Value self;                    // kMethod
  const Node* macro = nullptr;   // kMacro: a macro or call block
  std::shared_ptr<Scope> scope;  // kMacro: where it was defined
};

// Emptied when its loop ends, so that one that a template kept elsewhere holds nothing.
struct LoopObject final : Object {
  explicit LoopObject(std::vector<Value> values) : items(std::move(values)) {
    Account(static_cast<int64_t>(items.size() * sizeof(Value)));
  }
  std::vector<Value> items;
  int64_t index = 0;  // from 0
  int depth = 1;
  const Node* recursive = nullptr;  // the loop's node, where loop(...) is allowed
  std::shared_ptr<Scope> scope;     // around the loop
  bool has_changed_value = false;
  std::vector<Value> changed_value;
};

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> names;  // interned name, value
  const Value* Find(int name) const;         // here and outward
  void Set(int name, Value value);           // here
};

}  // namespace modu::text::jinja
