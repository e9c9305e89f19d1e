// Statements.
#include "server/text/jinja/parser.h"

#include "server/text/jinja/parser_layers.h"

namespace modu::text::jinja {

using Type = TokenType;

absl::StatusOr<std::unique_ptr<Template>> StatementParser::Run() {
  out_->root = Body({});
  if (!error_.ok()) return error_;
  return std::move(out_);
}

Node* StatementParser::Body(std::initializer_list<std::string_view> ends) {
  DepthGuard guard(this);
  Node* body = Make(NodeType::kBody);
  while (!failed()) {
    switch (Current().type) {
      case Type::kData: {
        Node* data = Make(NodeType::kData);
        data->text = Current().text;
        body->children.push_back(data);
        Next();
        break;
      }
      case Type::kVariableBegin: {
        Node* print = Make(NodeType::kPrint);
        Next();
        print->left = TupleOrExpression();
        if (Current().type != Type::kVariableEnd)
          return Fail(absl::StrCat("expected '}}', got ", Describe()));
        Next();
        body->children.push_back(print);
        break;
      }
      case Type::kBlockBegin: {
        Next();
        for (const std::string_view end : ends) {
          if (IsName(end)) return body;
        }
        if (Node* statement = Statement()) body->children.push_back(statement);
        break;
      }
      case Type::kEnd:
        if (ends.size() > 0)
          return Fail(
              absl::StrCat("expected {% ", std::string(*ends.begin()), " %}, reached the end"));
        return body;
      default:
        return Fail(absl::StrCat("unexpected ", Describe()));
    }
  }
  return body;
}

Node* StatementParser::BodyThrough(std::string_view end) {
  Node* body = Body({end});
  SkipName(end);
  ExpectBlockEnd();
  return body;
}

Node* StatementParser::Statement() {
  const std::string name = Current().type == Type::kName ? Current().text : "";
  if (name == "for") return For();
  if (name == "if") return If();
  if (name == "set") return Set();
  if (name == "macro") return Macro();
  if (name == "call") return CallBlock();
  if (name == "filter") return FilterBlock();
  if (name == "with") return With();
  if (name == "print") return Print();
  if (name == "break" || name == "continue") {
    if (loop_depth_ == 0) return Fail(absl::StrCat("'", name, "' outside a loop"));
    Node* node = Make(name == "break" ? NodeType::kBreak : NodeType::kContinue);
    Next();
    ExpectBlockEnd();
    return node;
  }
  if (name == "generation") {  // transformers marks the assistant's tokens with it; the text is
                               // what is inside
    Next();
    ExpectBlockEnd();
    return BodyThrough("endgeneration");
  }
  if (name == "block") {
    Next();
    const std::string block = ExpectName();
    SkipName("scoped");
    SkipName("required");
    ExpectBlockEnd();
    Node* with = Make(NodeType::kWith);
    with->body = Body({"endblock"});
    SkipName("endblock");
    SkipName(block);
    ExpectBlockEnd();
    return with;
  }
  if (name == "include" || name == "import" || name == "from" || name == "extends") {
    return Fail(absl::StrCat("'", name, "' is not allowed: a chat template is one file"));
  }
  return Fail(absl::StrCat("unknown tag ", Describe()));
}

Node* StatementParser::Print() {
  Node* body = Make(NodeType::kBody);
  Next();
  do {
    Node* print = Make(NodeType::kPrint);
    print->left = Expression();
    body->children.push_back(print);
  } while (SkipOp(",") && !failed());
  ExpectBlockEnd();
  return body;
}

Node* StatementParser::For() {
  Node* node = Make(NodeType::kFor);
  Next();
  node->left = Target(false);
  if (!SkipName("in")) return Fail(absl::StrCat("expected 'in', got ", Describe()));
  node->right = TupleOrExpression(false, "recursive");
  if (SkipName("if")) node->third = Expression();
  node->flag = SkipName("recursive");
  ExpectBlockEnd();
  ++loop_depth_;
  node->body = Body({"endfor", "else"});
  --loop_depth_;
  if (SkipName("else")) {
    ExpectBlockEnd();
    node->orelse = Body({"endfor"});
  }
  SkipName("endfor");
  ExpectBlockEnd();
  return node;
}

Node* StatementParser::If() {
  Node* node = Make(NodeType::kIf);
  do {
    Next();  // if, elif
    Branch branch;
    branch.condition = TupleOrExpression(false);
    ExpectBlockEnd();
    branch.body = Body({"elif", "else", "endif"});
    node->branches.push_back(branch);
  } while (IsName("elif") && !failed());
  if (SkipName("else")) {
    ExpectBlockEnd();
    node->orelse = Body({"endif"});
  }
  SkipName("endif");
  ExpectBlockEnd();
  return node;
}

Node* StatementParser::Set() {
  Node* node = Make(NodeType::kSet);
  Next();
  node->left = Target(true);
  if (SkipOp("=")) {
    node->right = TupleOrExpression();
    ExpectBlockEnd();
    return node;
  }
  node->type = NodeType::kSetBlock;
  if (IsOp("|")) node->third = Filters(nullptr);
  ExpectBlockEnd();
  node->body = BodyThrough("endset");
  return node;
}

void StatementParser::Signature(Node* node) {
  ExpectOp("(");
  bool has_default = false;
  while (!IsOp(")") && !failed()) {
    if (!node->parameters.empty()) {
      ExpectOp(",");
      if (IsOp(")")) break;
    }
    Parameter parameter;
    parameter.spelling = ExpectName();
    parameter.name = Intern(parameter.spelling);
    if (SkipOp("=")) {
      parameter.fallback = Expression();
      has_default = true;
    } else if (has_default) {
      Fail("a parameter without a default follows one with a default");
    }
    node->parameters.push_back(std::move(parameter));
  }
  ExpectOp(")");
}

Node* StatementParser::MacroBody(Node* macro, std::string_view end) {
  const int outer = std::exchange(loop_depth_, 0);
  macros_.push_back(macro);
  Node* body = BodyThrough(end);
  macros_.pop_back();
  loop_depth_ = outer;
  return body;
}

Node* StatementParser::Macro() {
  Node* node = Make(NodeType::kMacro);
  Next();
  node->text = ExpectName();
  node->name = Intern(node->text);
  Signature(node);
  ExpectBlockEnd();
  node->body = MacroBody(node, "endmacro");
  return node;
}

Node* StatementParser::CallBlock() {
  Node* node = Make(NodeType::kCallBlock);
  Next();
  node->text = "caller";
  if (IsOp("(")) Signature(node);
  node->left = Expression();
  if (node->left->type != NodeType::kCall) return Fail("expected a call after {% call %}");
  ExpectBlockEnd();
  node->body = MacroBody(node, "endcall");
  return node;
}

Node* StatementParser::FilterBlock() {
  Node* node = Make(NodeType::kFilterBlock);
  Next();
  node->left = Filters(nullptr, true);
  ExpectBlockEnd();
  node->body = BodyThrough("endfilter");
  return node;
}

Node* StatementParser::With() {
  Node* node = Make(NodeType::kWith);
  Next();
  while (Current().type != Type::kBlockEnd && !failed()) {
    if (!node->children.empty()) ExpectOp(",");
    node->children.push_back(Target(false, true));
    ExpectOp("=");
    node->children.push_back(Expression());
  }
  ExpectBlockEnd();
  node->body = BodyThrough("endwith");
  return node;
}

Node* StatementParser::Target(bool with_namespace, bool single) {
  DepthGuard guard(this);
  if (failed()) return Make(NodeType::kConst);
  std::vector<Node*> items;
  bool is_tuple = false;
  do {
    if (!items.empty() &&
        (IsName("in") || IsOp("=") || IsOp(")") || Current().type == Type::kBlockEnd))
      break;
    if (SkipOp("(")) {
      items.push_back(Target(with_namespace));
      ExpectOp(")");
    } else {
      Node* name = Make(NodeType::kName);
      name->text = ExpectName();
      if (name->text == "true" || name->text == "false" || name->text == "none" ||
          name->text == "True" || name->text == "False" || name->text == "None") {
        return Fail(absl::StrCat("cannot assign to '", name->text, "'"));
      }
      name->name = Intern(name->text);
      if (with_namespace && SkipOp(".")) {
        name->type = NodeType::kNamespaceTarget;
        name->text = ExpectName();
      }
      items.push_back(name);
    }
    if (single) break;
    is_tuple = is_tuple || IsOp(",");
  } while (SkipOp(",") && !failed());
  if (!is_tuple) return items[0];
  Node* tuple = Make(NodeType::kTupleLiteral);
  tuple->children = std::move(items);
  return tuple;
}

absl::StatusOr<std::unique_ptr<Template>> ParseTemplate(std::string_view source, int max_depth) {
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return StatementParser(*std::move(tokens), max_depth).Run();
}

}  // namespace modu::text::jinja
