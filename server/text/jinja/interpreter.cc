#include "server/text/jinja/interpreter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/text/jinja/json.h"

namespace modu::text::jinja {
namespace {

bool IsLink(NodeType type) {
  switch (type) {
    case NodeType::kGetAttr:
    case NodeType::kGetItem:
    case NodeType::kCall:
    case NodeType::kFilter:
    case NodeType::kTest:
    case NodeType::kBinary:
    case NodeType::kAnd:
    case NodeType::kOr:
      return true;
    default:
      return false;
  }
}

}  // namespace

Interpreter::Interpreter(const Template& parsed, const nlohmann::ordered_json& variables,
                         const TemplateBudget& budget, int64_t now_unix_s)
    : Runtime(budget, now_unix_s),
      parsed_(parsed),
      variables_(variables),
      resolved_(parsed.names.size()) {}

Interpreter::~Interpreter() {
  for (const auto& object : namespaces_) static_cast<NamespaceObject&>(*object).items.clear();
  for (const auto& scope : captured_) scope->names.clear();
  for (auto& scope : captured_) scope->parent.reset();
}

absl::StatusOr<std::string> Interpreter::Run() {
  std::string out;
  out_ = &out;
  Run(*parsed_.root, std::make_shared<Scope>());
  if (failed()) return error();
  return out;
}

void Interpreter::Write(std::string_view text) {
  if (!ChargeBytes(static_cast<int64_t>(text.size()))) return;
  open_bytes_ += static_cast<int64_t>(text.size());
  if (open_bytes_ > budget().max_output_bytes) {
    Fail(absl::StrCat("the template writes more than the limit of ", budget().max_output_bytes,
                      " bytes"));
    return;
  }
  out_->append(text);
}

void Interpreter::Print(const Value& value) {
  if (value.string()) {
    Write(value.text());
  } else {
    Write(Str(value));
  }
}

std::string Interpreter::Capture(const Node& body, const ScopePtr& scope) {
  std::string captured;
  std::string* outer = std::exchange(out_, &captured);
  const int64_t outer_bytes = open_bytes_;
  Run(body, scope);
  out_ = outer;
  open_bytes_ = outer_bytes;
  return captured;
}

// Statements
// -----------------------------------------------------------------------------------------------------

Interpreter::Flow Interpreter::Run(const Node& node, const ScopePtr& scope) {
  DepthGuard guard(this);
  if (!Charge(1)) return Flow::kBreak;
  set_line(node.line);
  switch (node.type) {
    case NodeType::kBody:
      return RunBody(node, scope);
    case NodeType::kData:
      Write(node.text);
      break;
    case NodeType::kPrint:
      Print(Evaluate(*node.left, scope));
      break;
    case NodeType::kIf:
      return RunIf(node, scope);
    case NodeType::kFor: {
      const Value iterable = Evaluate(*node.right, scope);
      if (failed()) break;
      return RunFor(node, scope, Iterate(iterable), 1);
    }
    case NodeType::kSet:
      Assign(*node.left, Evaluate(*node.right, scope), scope);
      break;
    case NodeType::kSetBlock: {
      auto inner = std::make_shared<Scope>();
      inner->parent = scope;
      Value value = NewString(Capture(*node.body, inner));
      if (node.third != nullptr) value = ApplyFilters(*node.third, std::move(value), scope);
      Assign(*node.left, std::move(value), scope);
      break;
    }
    case NodeType::kMacro:
      scope->Set(node.name, MakeMacro(node, scope));
      break;
    case NodeType::kCallBlock:
      RunCallBlock(node, scope);
      break;
    case NodeType::kFilterBlock: {
      auto inner = std::make_shared<Scope>();
      inner->parent = scope;
      Value text = NewString(Capture(*node.body, inner));
      Print(ApplyFilters(*node.left, std::move(text), scope));
      break;
    }
    case NodeType::kWith: {
      auto inner = std::make_shared<Scope>();
      inner->parent = scope;
      for (size_t i = 0; i + 1 < node.children.size() && !failed(); i += 2) {
        Assign(*node.children[i], Evaluate(*node.children[i + 1], scope), inner);
      }
      return Run(*node.body, inner);
    }
    case NodeType::kBreak:
      return Flow::kBreak;
    case NodeType::kContinue:
      return Flow::kContinue;
    default:
      Fail("not a statement");
      break;
  }
  return failed() ? Flow::kBreak : Flow::kNormal;
}

Interpreter::Flow Interpreter::RunBody(const Node& body, const ScopePtr& scope) {
  for (const Node* child : body.children) {
    const Flow flow = Run(*child, scope);
    if (flow != Flow::kNormal || failed()) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunIf(const Node& node, const ScopePtr& scope) {
  for (const Branch& branch : node.branches) {
    const bool taken = Truthy(Evaluate(*branch.condition, scope));
    if (failed()) return Flow::kBreak;
    if (taken) return Run(*branch.body, scope);
  }
  return node.orelse != nullptr ? Run(*node.orelse, scope) : Flow::kNormal;
}

Interpreter::Flow Interpreter::RunFor(const Node& node, const ScopePtr& scope,
                                      std::vector<Value> items, int depth) {
  if (node.third != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      auto inner = std::make_shared<Scope>();
      inner->parent = scope;
      Assign(*node.left, item, inner);
      const bool keep = Truthy(Evaluate(*node.third, inner));
      if (failed()) return Flow::kBreak;
      if (keep) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (failed()) return Flow::kBreak;
  if (items.empty()) {
    if (node.orelse == nullptr) return Flow::kNormal;
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    return Run(*node.orelse, inner);
  }
  auto loop = std::make_shared<LoopObject>(std::move(items));
  loop->depth = depth;
  loop->recursive = node.flag ? &node : nullptr;
  loop->scope = scope;
  const Value loop_value = Value::Of(Kind::kLoop, loop);
  const auto count = static_cast<int64_t>(loop->items.size());
  for (; loop->index < count && !failed(); ++loop->index) {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    inner->Set(parsed_.loop_name, loop_value);
    Assign(*node.left, loop->items[static_cast<size_t>(loop->index)], inner);
    if (failed() || Run(*node.body, inner) == Flow::kBreak) break;
  }
  loop->items.clear();
  loop->changed_value.clear();
  loop->scope.reset();
  return failed() ? Flow::kBreak : Flow::kNormal;
}

void Interpreter::Assign(const Node& target, Value value, const ScopePtr& scope) {
  if (failed()) return;
  if (target.type == NodeType::kName) {
    scope->Set(target.name, std::move(value));
    return;
  }
  if (target.type == NodeType::kNamespaceTarget) {
    const Value space = LookUp(target.name, scope);
    if (!space.is(Kind::kNamespace)) {
      Fail("cannot assign an attribute of what is not a namespace");
      return;
    }
    auto& items = space.ns().items;
    if (!ChargeItems(static_cast<int64_t>(items.size()))) return;
    const auto found = std::find_if(items.begin(), items.end(),
                                    [&](const auto& i) { return i.first == target.text; });
    if (found != items.end()) {
      found->second = std::move(value);
    } else {
      items.emplace_back(target.text, std::move(value));
    }
    return;
  }
  if (value.undefined()) {
    FailUndefined(value);
    return;
  }
  std::vector<Value> parts = Iterate(value);
  if (failed()) return;
  if (parts.size() != target.children.size()) {
    Fail(
        absl::StrCat("expected ", target.children.size(), " values to unpack, got ", parts.size()));
    return;
  }
  for (size_t i = 0; i < parts.size(); ++i) Assign(*target.children[i], std::move(parts[i]), scope);
}

// Expressions
// ----------------------------------------------------------------------------------------------------

Value Interpreter::LookUp(int name, const ScopePtr& scope) {
  if (const Value* found = scope->Find(name)) return *found;
  std::optional<Value>& resolved = resolved_[static_cast<size_t>(name)];
  if (!resolved) {
    const std::string& spelling = parsed_.names[static_cast<size_t>(name)];
    const auto variable = variables_.is_object() ? variables_.find(spelling) : variables_.end();
    if (variables_.is_object() && variable != variables_.end()) {
      resolved = FromJson(this, *variable);
    } else if (IsGlobal(spelling)) {
      auto function = std::make_shared<FunctionObject>();
      function->name = spelling;
      resolved = Value::Of(Kind::kFunction, std::move(function));
    } else {
      resolved = Value::Undefined(absl::StrCat("'", spelling, "' is undefined"));
    }
  }
  return *resolved;
}

CallArguments Interpreter::EvaluateArguments(const std::vector<Argument>& arguments,
                                             const ScopePtr& scope) {
  CallArguments result;
  for (const Argument& argument : arguments) {
    Value value = Evaluate(*argument.value, scope);
    if (failed()) break;
    switch (argument.type) {
      case Argument::Type::kPositional:
        result.positional.push_back(std::move(value));
        break;
      case Argument::Type::kNamed:
        result.named.emplace_back(argument.name, std::move(value));
        break;
      case Argument::Type::kSpread:
        for (Value& item : Iterate(value)) result.positional.push_back(std::move(item));
        break;
      case Argument::Type::kNamedSpread:
        if (!value.dict()) {
          Fail(absl::StrCat("'**' needs a dict, not a ", TypeName(value)));
          break;
        }
        for (const auto& [key, item] : value.map().items) {
          if (!key.string()) {
            Fail("'**' needs keys that are strings");
            break;
          }
          result.named.emplace_back(key.text(), item);
        }
        break;
    }
  }
  return result;
}

Value Interpreter::Evaluate(const Node& node, const ScopePtr& scope) {
  if (!Charge(1)) return Value();
  if (node.type == NodeType::kConst) return node.value;
  if (node.type == NodeType::kName) return LookUp(node.name, scope);
  DepthGuard guard(this);
  if (failed()) return Value();
  if (!IsLink(node.type)) return EvaluateBase(node, scope);
  std::vector<const Node*> chain;
  const Node* base = &node;
  for (; IsLink(base->type); base = base->left) chain.push_back(base);
  if (!Charge(static_cast<int64_t>(chain.size()))) return Value();
  Value value = EvaluateBase(*base, scope);
  for (size_t i = chain.size(); i-- > 0 && !failed();)
    value = ApplyLink(*chain[i], std::move(value), scope);
  return value;
}

Value Interpreter::EvaluateBase(const Node& node, const ScopePtr& scope) {
  set_line(node.line);
  switch (node.type) {
    case NodeType::kConst:
      return node.value;
    case NodeType::kName:
      return LookUp(node.name, scope);
    case NodeType::kListLiteral:
    case NodeType::kTupleLiteral: {
      std::vector<Value> items;
      for (const Node* child : node.children) items.push_back(Evaluate(*child, scope));
      if (failed()) return Value();
      return NewSequence(std::move(items),
                         node.type == NodeType::kListLiteral ? Flavor::kList : Flavor::kTuple);
    }
    case NodeType::kDictLiteral: {
      std::vector<std::pair<Value, Value>> items;
      for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
        Value key = Evaluate(*node.children[i], scope);
        items.emplace_back(std::move(key), Evaluate(*node.children[i + 1], scope));
      }
      if (failed()) return Value();
      return NewDict(std::move(items));
    }
    case NodeType::kUnary: {
      const Value value = Evaluate(*node.left, scope);
      if (failed()) return Value();
      if (node.text == "-") return Negate(value);
      if (value.undefined()) return FailUndefined(value);
      if (!value.number())
        return Fail(absl::StrCat("unary '+' is not supported for ", TypeName(value)));
      return value.is(Kind::kBool) ? Value::Integer(value.as_int()) : value;
    }
    case NodeType::kNot:
      return Value::Bool(!Truthy(Evaluate(*node.left, scope)));
    case NodeType::kConcat: {
      std::string out;
      for (const Node* child : node.children) {
        const Value value = Evaluate(*child, scope);
        if (failed()) return Value();
        out += value.string() ? value.text() : Str(value);
        if (!FitsString(1, static_cast<int64_t>(out.size()))) return Value();
      }
      return NewString(std::move(out));
    }
    case NodeType::kCompare:
      return CompareChain(node, scope);
    case NodeType::kConditional: {
      const bool taken = Truthy(Evaluate(*node.left, scope));
      if (failed()) return Value();
      if (taken) return Evaluate(*node.right, scope);
      if (node.third != nullptr) return Evaluate(*node.third, scope);
      return Value::Undefined(
          "the inline if-expression evaluated to false and no else section was defined");
    }
    case NodeType::kSlice:
      return Fail("a slice stands only in a subscript");
    default:
      return Fail("not an expression");
  }
}

Value Interpreter::ApplyLink(const Node& node, Value left, const ScopePtr& scope) {
  set_line(node.line);
  switch (node.type) {
    case NodeType::kGetAttr:
      return GetAttr(left, node.text);
    case NodeType::kGetItem: {
      if (node.right->type == NodeType::kSlice) {
        const auto part = [&](const Node* bound) {
          return bound == nullptr ? Value::None() : Evaluate(*bound, scope);
        };
        const Value start = part(node.right->left), stop = part(node.right->right),
                    step = part(node.right->third);
        return failed() ? Value() : Slice(left, start, stop, step);
      }
      const Value index = Evaluate(*node.right, scope);
      return failed() ? Value() : GetItem(left, index);
    }
    case NodeType::kCall: {
      const CallArguments arguments = EvaluateArguments(node.arguments, scope);
      if (failed()) return Value();
      set_line(node.line);
      return Call(left, arguments);
    }
    case NodeType::kFilter: {
      const CallArguments arguments = EvaluateArguments(node.arguments, scope);
      return failed() ? Value() : CallFilter(node.text, left, arguments);
    }
    case NodeType::kTest: {
      const CallArguments arguments = EvaluateArguments(node.arguments, scope);
      return failed() ? Value() : Value::Bool(CallTest(node.text, left, arguments) != node.flag);
    }
    case NodeType::kBinary: {
      const Value right = Evaluate(*node.right, scope);
      return failed() ? Value() : Binary(node.text, left, right);
    }
    case NodeType::kAnd:
      return Truthy(left) ? Evaluate(*node.right, scope) : left;
    case NodeType::kOr:
      return Truthy(left) ? left : Evaluate(*node.right, scope);
    default:
      return Fail("not a link");
  }
}

Value Interpreter::ApplyFilters(const Node& chain, Value value, const ScopePtr& scope) {
  std::vector<const Node*> filters;
  for (const Node* node = &chain; node != nullptr; node = node->left) filters.push_back(node);
  for (size_t i = filters.size(); i-- > 0 && !failed();)
    value = ApplyLink(*filters[i], std::move(value), scope);
  return value;
}

Value Interpreter::CompareChain(const Node& node, const ScopePtr& scope) {
  Value left = Evaluate(*node.children[0], scope);
  for (size_t i = 0; i < node.operators.size() && !failed(); ++i) {
    Value right = Evaluate(*node.children[i + 1], scope);
    if (failed()) break;
    const std::string& op = node.operators[i];
    bool holds = false;
    if (op == "==") holds = Equal(left, right);
    if (op == "!=") holds = !Equal(left, right);
    if (op == "<") holds = Less(left, right);
    if (op == ">") holds = Less(right, left);
    // NaN is neither below nor equal, so <= is not the negation of >.
    if (op == "<=") holds = Less(left, right) || (!failed() && Equal(left, right));
    if (op == ">=") holds = Less(right, left) || (!failed() && Equal(left, right));
    if (op == "in") holds = Contains(right, left);
    if (op == "not in") holds = !Contains(right, left);
    if (failed()) break;
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return failed() ? Value() : Value::Bool(true);
}

}  // namespace modu::text::jinja
