// Runs a parsed template once: statements, scopes, macros and loops over the Runtime's expressions.
// One thread, one run. Recursion in C++ is bounded by the depth budget; chains of operators and
// postfixes are folded in a loop.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json_fwd.hpp"
#include "server/text/jinja/ast.h"
#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

class Interpreter final : public Runtime {
 public:
  Interpreter(const Template& parsed, const nlohmann::ordered_json& variables,
              const TemplateBudget& budget, int64_t now_unix_s);
  ~Interpreter() override;

  absl::StatusOr<std::string> Run();
  Value Call(const Value& callee, const CallArguments& arguments) override;

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;
  struct DepthGuard;

  void Write(std::string_view text);
  void Print(const Value& value);
  /// What running `body` writes.
  std::string Capture(const Node& body, const ScopePtr& scope);

  Flow Run(const Node& node, const ScopePtr& scope);
  Flow RunBody(const Node& body, const ScopePtr& scope);
  Flow RunIf(const Node& node, const ScopePtr& scope);
  Flow RunFor(const Node& node, const ScopePtr& scope, std::vector<Value> items, int depth);
  void RunCallBlock(const Node& node, const ScopePtr& scope);
  void Assign(const Node& target, Value value, const ScopePtr& scope);
  Value MakeMacro(const Node& node, const ScopePtr& scope);
  Value CallMacro(const FunctionObject& macro, const CallArguments& arguments);

  Value Evaluate(const Node& node, const ScopePtr& scope);
  Value EvaluateBase(const Node& node, const ScopePtr& scope);
  /// One link of a chain: its left side is already a value.
  Value ApplyLink(const Node& node, Value left, const ScopePtr& scope);
  Value ApplyFilters(const Node& chain, Value value, const ScopePtr& scope);
  Value CompareChain(const Node& node, const ScopePtr& scope);
  Value LookUp(int name, const ScopePtr& scope);
  CallArguments EvaluateArguments(const std::vector<Argument>& arguments, const ScopePtr& scope);

  const Template& parsed_;
  const nlohmann::ordered_json& variables_;
  std::vector<std::optional<Value>> resolved_;  // variables by interned name
  std::string* out_ = nullptr;
  int64_t open_bytes_ = 0;  // in all buffers being written
  int depth_ = 0;
  int call_depth_ = 0;
  std::vector<ScopePtr> captured_;  // by macros: rings and chains, emptied one by one at the end
};

// C++ frames per level of a template's own nesting. At the default depth of 128 this is 1,536
// frames of a few hundred bytes: far from any thread's stack, with sanitizers too.
inline constexpr int kFramesPerLevel = 12;

struct Interpreter::DepthGuard {
  explicit DepthGuard(Interpreter* i) : interpreter(i) {
    if (++interpreter->depth_ > interpreter->budget().max_depth * kFramesPerLevel) {
      interpreter->Fail(
          absl::StrCat("nested deeper than the limit of ", interpreter->budget().max_depth));
    }
  }
  ~DepthGuard() { --interpreter->depth_; }
  Interpreter* interpreter;
};

}  // namespace modu::text::jinja
