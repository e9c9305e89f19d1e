// What expressions mean: Python's operators, attributes and methods over Values, under a render's
// budgets. One Runtime is one render on one thread. Every operation either returns a value or
// leaves an error; after an error values are meaningless and every loop of ours ends. Steps are
// charged for work as well as for nodes, so that no cheap-looking expression copies gigabytes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/text/chat_template.h"
#include "server/text/jinja/value.h"

namespace modu::text::jinja {

class Runtime {
 public:
  Runtime(const TemplateBudget& budget, int64_t now_unix_s);
  virtual ~Runtime() = default;

  bool failed() const { return !error_.ok(); }
  const absl::Status& error() const { return error_; }
  Value Fail(
      std::string_view message);  // kInvalidArgument, with the line of the node being evaluated
  Value FailUndefined(const Value& undefined);  // using an undefined value
  bool Charge(int64_t steps);                   // false: over the budget (now failed)
  bool ChargeBytes(int64_t bytes) { return Charge(1 + bytes / 1024); }
  bool ChargeItems(int64_t items) { return Charge(1 + items / 8); }
  void set_line(int line) { line_ = line; }
  int64_t now_unix_s() const { return now_unix_s_; }
  const TemplateBudget& budget() const { return budget_; }

  // Checked constructors: size, nesting and memory budgets.
  Value NewString(std::string text, bool markup = false);
  Value NewSequence(std::vector<Value> items, Flavor flavor);
  Value NewDict(
      std::vector<std::pair<Value, Value>> items);  // later duplicates win, the first place stays
  /// False, with the error set, if a string of so many bytes would be too long.
  bool FitsString(int64_t count, int64_t bytes_each);

  bool Truthy(const Value& value) const;
  std::string Str(const Value& value);
  std::string Repr(const Value& value);
  bool Equal(const Value& a, const Value& b);
  /// a < b by Python's rules; fails for kinds without an order between them.
  bool Less(const Value& a, const Value& b);
  bool Contains(const Value& container, const Value& item);
  int64_t Length(const Value& value);
  /// The items that a for loop over it sees; a generator is used up.
  std::vector<Value> Iterate(const Value& value);

  Value GetAttr(const Value& object, const std::string& name);
  Value GetItem(const Value& object, const Value& index);
  Value GetPath(const Value& object, const Value& path);  // "a.b.0" as filters' attribute arguments
  Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  const Value* FindKey(const DictObject& dict, const Value& key);

  Value Binary(std::string_view op, const Value& a, const Value& b);
  Value Negate(const Value& value);
  std::string TypeName(const Value& value) const;

  virtual Value Call(const Value& callee, const CallArguments& arguments) = 0;
  Value CallMethod(const Value& self, const std::string& name, const CallArguments& arguments);
  Value CallGlobal(const std::string& name, const CallArguments& arguments);
  Value CallFilter(const std::string& name, const Value& input, const CallArguments& arguments);
  bool CallTest(const std::string& name, const Value& input, const CallArguments& arguments);

 protected:
  /// Namespaces can hold each other in rings and in long chains: all are kept, and emptied one by
  /// one at the end.
  std::vector<std::shared_ptr<Object>> namespaces_;

 private:
  Value Add(const Value& a, const Value& b);
  Value Repeat(const Value& value, Int count);
  Value Power(const Value& a, const Value& b);
  Value Arithmetic(std::string_view op, const Value& a, const Value& b);
  Value Undefined(const Value& object, const Value& name);
  void ReprTo(const Value& value, std::string* out);
  bool SliceBounds(const Value& start, const Value& stop, const Value& step, int64_t length,
                   int64_t* begin, int64_t* end, int64_t* stride);

  const TemplateBudget budget_;
  const int64_t now_unix_s_;
  const int64_t live_at_start_;
  int64_t steps_ = 0;
  int line_ = 0;
  absl::Status error_;
};

std::string EscapeHtml(std::string_view text);  // markupsafe's escape
bool HasMethod(const Value& self, std::string_view name);
bool IsGlobal(std::string_view name);
bool IsFilter(std::string_view name);
bool IsTest(std::string_view name);

/// Arguments matched to names, as Python matches them. `names` is comma separated; what is not
/// given stays null.
class Bound {
 public:
  Bound(Runtime* runtime, std::string_view what, const CallArguments& arguments,
        std::string_view names, size_t required = 0);
  bool ok() const { return ok_; }
  const Value* operator[](size_t index) const { return values_[index]; }
  bool Bool(size_t index, bool fallback) const;
  Int Integer(size_t index, Int fallback);
  std::string Text(size_t index, std::string_view fallback);

 private:
  Runtime* runtime_;
  std::string what_;
  std::vector<std::string> names_;
  std::vector<const Value*> values_;
  bool ok_ = true;
};

}  // namespace modu::text::jinja
