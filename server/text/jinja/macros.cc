// Macros, call blocks and everything else that can be called.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/interpreter.h"

namespace modu::text::jinja {

Value Interpreter::MakeMacro(const Node& node, const ScopePtr& scope) {
  auto function = std::make_shared<FunctionObject>();
  function->type = FunctionObject::Type::kMacro;
  function->name = node.text;
  function->macro = &node;
  function->scope = scope;
  if (captured_.empty() || captured_.back() != scope) captured_.push_back(scope);
  return Value::Of(Kind::kFunction, std::move(function));
}

void Interpreter::RunCallBlock(const Node& node, const ScopePtr& scope) {
  const Node& call = *node.left;
  const Value callee = Evaluate(*call.left, scope);
  CallArguments arguments = EvaluateArguments(call.arguments, scope);
  arguments.named.emplace_back("caller", MakeMacro(node, scope));
  if (failed()) return;
  Print(Call(callee, arguments));
}

Value Interpreter::CallMacro(const FunctionObject& macro, const CallArguments& arguments) {
  const Node& node = *macro.macro;
  auto scope = std::make_shared<Scope>();
  scope->parent = macro.scope;
  const size_t given = arguments.positional.size();
  if (given > node.parameters.size() && !node.uses_varargs) {
    return Fail(absl::StrCat("macro '", macro.name, "' takes at most ", node.parameters.size(),
                             " arguments, got ", given));
  }
  std::vector<std::pair<Value, Value>> rest;
  std::vector<bool> bound(node.parameters.size(), false);
  for (size_t i = 0; i < std::min(given, node.parameters.size()); ++i) {
    scope->Set(node.parameters[i].name, arguments.positional[i]);
    bound[i] = true;
  }
  bool has_caller = false;
  for (const auto& [name, value] : arguments.named) {
    const auto found =
        std::find_if(node.parameters.begin(), node.parameters.end(),
                     [&, &spelling = name](const Parameter& p) { return p.spelling == spelling; });
    if (found != node.parameters.end()) {
      const auto index = static_cast<size_t>(found - node.parameters.begin());
      if (bound[index])
        return Fail(absl::StrCat("macro '", macro.name, "' got '", name, "' twice"));
      scope->Set(found->name, value);
      bound[index] = true;
    } else if (name == "caller" && node.uses_caller) {
      scope->Set(parsed_.caller_name, value);
      has_caller = true;
    } else if (node.uses_kwargs) {
      rest.emplace_back(Value::String(name), value);
    } else {
      return Fail(absl::StrCat("macro '", macro.name, "' takes no argument '", name, "'"));
    }
  }
  const bool names_caller = std::any_of(node.parameters.begin(), node.parameters.end(),
                                        [](const Parameter& p) { return p.spelling == "caller"; });
  if (node.uses_caller && !has_caller && !names_caller && node.type == NodeType::kMacro) {
    scope->Set(parsed_.caller_name, Value::Undefined("no caller defined"));
  }
  if (node.uses_varargs) {
    std::vector<Value> more;
    for (size_t i = node.parameters.size(); i < given; ++i) more.push_back(arguments.positional[i]);
    scope->Set(parsed_.varargs_name, NewSequence(std::move(more), Flavor::kTuple));
  }
  if (node.uses_kwargs) scope->Set(parsed_.kwargs_name, NewDict(std::move(rest)));
  for (size_t i = 0; i < node.parameters.size() && !failed(); ++i) {
    const Parameter& parameter = node.parameters[i];
    if (bound[i]) continue;
    scope->Set(parameter.name, parameter.fallback != nullptr
                                   ? Evaluate(*parameter.fallback, scope)
                                   : Value::Undefined(absl::StrCat(
                                         "parameter '", parameter.spelling, "' was not provided")));
  }
  if (failed()) return Value();
  return NewString(Capture(*node.body, scope));
}

Value Interpreter::Call(const Value& callee, const CallArguments& arguments) {
  if (!Charge(1)) return Value();
  if (callee.undefined()) return FailUndefined(callee);
  if (callee.is(Kind::kJoiner)) {
    JoinerObject& joiner = callee.joiner();
    return Value::String(std::exchange(joiner.used, true) ? joiner.separator : "");
  }
  struct CallDepth {
    explicit CallDepth(Interpreter* i) : interpreter(i) { ++interpreter->call_depth_; }
    ~CallDepth() { --interpreter->call_depth_; }
    Interpreter* interpreter;
  } call_depth(this);
  DepthGuard guard(this);
  if (call_depth_ > budget().max_depth) {
    return Fail(absl::StrCat("calls are nested deeper than the limit of ", budget().max_depth));
  }
  if (callee.is(Kind::kLoop)) {
    const LoopObject& loop = callee.loop();
    if (loop.recursive == nullptr || loop.scope == nullptr)
      return Fail("the loop is not recursive");
    if (arguments.positional.size() != 1) return Fail("loop(...) takes one argument");
    const Node& node = *loop.recursive;
    const ScopePtr scope = loop.scope;
    std::vector<Value> items = Iterate(arguments.positional[0]);
    std::string captured;
    std::string* outer = std::exchange(out_, &captured);
    const int64_t outer_bytes = open_bytes_;
    RunFor(node, scope, std::move(items), loop.depth + 1);
    out_ = outer;
    open_bytes_ = outer_bytes;
    return NewString(std::move(captured));
  }
  if (!callee.is(Kind::kFunction))
    return Fail(absl::StrCat("a ", TypeName(callee), " cannot be called"));
  const FunctionObject& function = callee.function();
  switch (function.type) {
    case FunctionObject::Type::kMacro:
      return CallMacro(function, arguments);
    case FunctionObject::Type::kMethod:
      return CallMethod(function.self, function.name, arguments);
    case FunctionObject::Type::kGlobal:
      return CallGlobal(function.name, arguments);
  }
  return Value();
}

}  // namespace modu::text::jinja
