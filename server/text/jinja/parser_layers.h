// The parser's three layers: tokens and nodes (ParserBase), expressions, statements. Recursive
// descent with a depth budget; after the first error it stands on the end token, so every loop
// ends. One use on one thread.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/text/jinja/ast.h"
#include "server/text/jinja/lexer.h"

namespace modu::text::jinja {

class ParserBase {
 public:
  ParserBase(std::vector<Token> tokens, int max_depth)
      : tokens_(std::move(tokens)), max_depth_(max_depth), out_(std::make_unique<Template>()) {
    out_->loop_name = Intern("loop");
    out_->caller_name = Intern("caller");
    out_->varargs_name = Intern("varargs");
    out_->kwargs_name = Intern("kwargs");
  }

 protected:
  struct DepthGuard {
    explicit DepthGuard(ParserBase* p) : parser(p) {
      if (++parser->depth_ > parser->max_depth_) {
        parser->Fail(absl::StrCat("nested deeper than the limit of ", parser->max_depth_));
      }
    }
    ~DepthGuard() { --parser->depth_; }
    ParserBase* parser;
  };

  const Token& Current() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool failed() const { return !error_.ok(); }

  void Next() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }

  /// After a failure the parser stands on the end token, so every loop ends.
  Node* Fail(std::string_view what) {
    if (error_.ok()) {
      error_ = absl::InvalidArgumentError(
          absl::StrCat("template line ", Current().line, ": ", std::string(what)));
      at_ = tokens_.size() - 1;
    }
    return Make(NodeType::kConst);
  }

  std::string Describe() const {
    switch (Current().type) {
      case TokenType::kEnd:
        return "the end of the template";
      case TokenType::kString:
        return "a string";
      case TokenType::kData:
        return "text";
      default:
        return absl::StrCat("'", Current().text, "'");
    }
  }

  Node* Make(NodeType type) {
    out_->arena.push_back(std::make_unique<Node>());
    Node* node = out_->arena.back().get();
    node->type = type;
    node->line = Current().line;
    return node;
  }

  int Intern(const std::string& name) {
    const auto [entry, added] = out_->name_ids.emplace(name, static_cast<int>(out_->names.size()));
    if (added) out_->names.push_back(name);
    return entry->second;
  }

  bool IsOp(std::string_view op) const {
    return Current().type == TokenType::kOperator && Current().text == op;
  }
  bool IsName(std::string_view name) const {
    return Current().type == TokenType::kName && Current().text == name;
  }
  bool SkipOp(std::string_view op) {
    if (!IsOp(op)) return false;
    Next();
    return true;
  }
  bool SkipName(std::string_view name) {
    if (!IsName(name)) return false;
    Next();
    return true;
  }
  void ExpectOp(std::string_view op) {
    if (!SkipOp(op)) Fail(absl::StrCat("expected '", std::string(op), "', got ", Describe()));
  }
  std::string ExpectName() {
    if (Current().type != TokenType::kName) {
      Fail(absl::StrCat("expected a name, got ", Describe()));
      return "";
    }
    std::string name = Current().text;
    Next();
    return name;
  }
  void ExpectBlockEnd() {
    if (Current().type != TokenType::kBlockEnd) {
      Fail(absl::StrCat("expected '%}', got ", Describe()));
      return;
    }
    Next();
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  const int max_depth_;
  int loop_depth_ = 0;
  std::vector<Node*> macros_;  // around the current place
  absl::Status error_;
  std::unique_ptr<Template> out_;
};

class ExpressionParser : protected ParserBase {
 protected:
  using ParserBase::ParserBase;

  bool AtTupleEnd(std::string_view end_name) const;
  Node* TupleOrExpression(bool with_conditional = true, std::string_view end_name = "",
                          bool parenthesised = false);
  Node* Expression();
  Node* Binary(NodeType type, std::string op, Node* left, Node* right);
  Node* Or();
  Node* And();
  Node* Not();
  Node* Compare();
  Node* Sum();
  Node* Concat();
  Node* Product();
  Node* Power();
  Node* Unary(bool with_filters);
  Node* Constant(Value value);
  Node* Primary();
  Node* Parenthesis();
  Node* ListLiteral();
  Node* DictLiteral();
  Node* Postfix(Node* node);
  Node* Subscript(Node* object);
  Node* SliceOrExpression();
  void Arguments(std::vector<Argument>* arguments);
  Node* Call(Node* callee);
  std::string DottedName();
  /// Filters, tests and calls after an expression. For filter blocks node is null, and with
  /// start_inline the first filter has no "|".
  Node* Filters(Node* node, bool start_inline = false);
  Node* Test(Node* operand);
};

class StatementParser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;
  absl::StatusOr<std::unique_ptr<Template>> Run();

 private:
  /// Until one of the tag names in `ends` stands after "{%" (consumed up to the name, which stays),
  /// or the end.
  Node* Body(std::initializer_list<std::string_view> ends);
  /// The body, its end tag's name and "%}".
  Node* BodyThrough(std::string_view end);
  Node* Statement();
  Node* Print();
  Node* For();
  Node* If();
  Node* Set();
  void Signature(Node* node);
  /// Loops around a macro's definition are not loops of its body.
  Node* MacroBody(Node* macro, std::string_view end);
  Node* Macro();
  Node* CallBlock();
  Node* FilterBlock();
  Node* With();
  /// What may be assigned to: a name, ns.attribute, or a tuple of these, nested.
  Node* Target(bool with_namespace, bool single = false);
};

}  // namespace modu::text::jinja
