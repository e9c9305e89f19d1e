// The parsed template: nodes in one arena, pointing at each other, freed flat. Immutable after
// parsing.
#pragma once
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/text/jinja/value.h"

namespace modu::text::jinja {

enum class NodeType : uint8_t {
  // statements
  kBody,
  kData,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kBreak,
  kContinue,
  // expressions
  kName,
  kConst,
  kListLiteral,
  kTupleLiteral,
  kDictLiteral,
  kGetAttr,
  kGetItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kUnary,
  kBinary,
  kCompare,
  kConcat,
  kConditional,
  kAnd,
  kOr,
  kNot,
  kNamespaceTarget
};

struct Argument {
  enum class Type : uint8_t { kPositional, kNamed, kSpread, kNamedSpread };
  Type type = Type::kPositional;
  std::string name;
  Node* value = nullptr;
};

struct Branch {  // of if
  Node* condition = nullptr;
  Node* body = nullptr;
};

struct Parameter {  // of macro
  int name = -1;
  std::string spelling;
  Node* fallback = nullptr;
};

// One struct for all kinds: a node uses the fields that its comment names.
struct Node {
  NodeType type = NodeType::kBody;
  int line = 0;
  bool flag = false;  // kFor: recursive; kTest: negated
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;  // kMacro, kCallBlock
  int name = -1;          // kName, kNamespaceTarget, kMacro: interned
  std::string text;       // kData; attribute, filter, test, operator name; kMacro's name
  Value value;            // kConst
  Node* left = nullptr;   // operand, object, iterable, expression, target of kSet
  Node* right = nullptr;  // second operand, index, assigned expression
  Node* third =
      nullptr;  // kConditional's else, kFor's condition, kSlice's step, filter of kSetBlock
  Node* body = nullptr;         // kFor, kMacro, kSetBlock, ...
  Node* orelse = nullptr;       // kIf, kFor
  std::vector<Node*> children;  // kBody; items of literals (keys and values by turns in dicts);
                                // kConcat; kCompare's operands
  std::vector<std::string> operators;  // kCompare
  std::vector<Branch> branches;        // kIf
  std::vector<Argument> arguments;     // kCall, kFilter, kTest
  std::vector<Parameter> parameters;   // kMacro, kCallBlock; kWith: targets are children pairs
};

struct Template {
  std::vector<std::unique_ptr<Node>> arena;
  Node* root = nullptr;
  std::vector<std::string> names;  // interned id to spelling
  std::unordered_map<std::string, int> name_ids;
  int loop_name = -1, caller_name = -1, varargs_name = -1, kwargs_name = -1;
};

}  // namespace modu::text::jinja
