#include "server/text/jinja/number.h"
#include "server/text/jinja/parser_layers.h"

namespace modu::text::jinja {

using Type = TokenType;

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  return Current().type == Type::kVariableEnd || Current().type == Type::kBlockEnd || IsOp(")") ||
         (!end_name.empty() && IsName(end_name));
}

Node* ExpressionParser::TupleOrExpression(bool with_conditional, std::string_view end_name,
                                          bool parenthesised) {
  std::vector<Node*> items;
  bool is_tuple = false;
  while (!failed()) {
    if (AtTupleEnd(end_name)) break;
    items.push_back(with_conditional ? Expression() : Or());
    if (!SkipOp(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items[0];
  if (!is_tuple && !parenthesised)
    return Fail(absl::StrCat("expected an expression, got ", Describe()));
  Node* tuple = Make(NodeType::kTupleLiteral);
  tuple->children = std::move(items);
  return tuple;
}

Node* ExpressionParser::Expression() {
  DepthGuard guard(this);
  if (failed()) return Make(NodeType::kConst);
  Node* left = Or();
  while (IsName("if")) {
    Node* node = Make(NodeType::kConditional);
    Next();
    node->right = left;
    node->left = Or();
    if (SkipName("else")) node->third = Expression();
    left = node;
  }
  return left;
}

Node* ExpressionParser::Binary(NodeType type, std::string op, Node* left, Node* right) {
  Node* node = Make(type);
  node->text = std::move(op);
  node->left = left;
  node->right = right;
  return node;
}

Node* ExpressionParser::Or() {
  Node* left = And();
  while (SkipName("or")) left = Binary(NodeType::kOr, "or", left, And());
  return left;
}

Node* ExpressionParser::And() {
  Node* left = Not();
  while (SkipName("and")) left = Binary(NodeType::kAnd, "and", left, Not());
  return left;
}

Node* ExpressionParser::Not() {
  if (!IsName("not")) return Compare();
  DepthGuard guard(this);
  if (failed()) return Make(NodeType::kConst);
  Node* node = Make(NodeType::kNot);
  Next();
  node->left = Not();
  return node;
}

Node* ExpressionParser::Compare() {
  Node* first = Sum();
  Node* node = nullptr;
  while (!failed()) {
    std::string op;
    if (Current().type == Type::kOperator) {
      for (const std::string_view candidate : {"==", "!=", "<", "<=", ">", ">="}) {
        if (Current().text == candidate) op = candidate;
      }
    } else if (IsName("in")) {
      op = "in";
    } else if (IsName("not") && Ahead().type == Type::kName && Ahead().text == "in") {
      op = "not in";
      Next();
    }
    if (op.empty()) break;
    if (node == nullptr) {
      node = Make(NodeType::kCompare);
      node->children.push_back(first);
    }
    Next();
    node->operators.push_back(op);
    node->children.push_back(Sum());
  }
  return node == nullptr ? first : node;
}

Node* ExpressionParser::Sum() {
  Node* left = Concat();
  while (IsOp("+") || IsOp("-")) {
    std::string op = Current().text;
    Next();
    left = Binary(NodeType::kBinary, std::move(op), left, Concat());
  }
  return left;
}

Node* ExpressionParser::Concat() {
  Node* first = Product();
  if (!IsOp("~")) return first;
  Node* node = Make(NodeType::kConcat);
  node->children.push_back(first);
  while (SkipOp("~")) node->children.push_back(Product());
  return node;
}

Node* ExpressionParser::Product() {
  Node* left = Power();
  while (IsOp("*") || IsOp("/") || IsOp("//") || IsOp("%")) {
    std::string op = Current().text;
    Next();
    left = Binary(NodeType::kBinary, std::move(op), left, Power());
  }
  return left;
}

Node* ExpressionParser::Power() {  // left-associative in Jinja
  Node* left = Unary(true);
  while (SkipOp("**")) left = Binary(NodeType::kBinary, "**", left, Unary(true));
  return left;
}

Node* ExpressionParser::Unary(bool with_filters) {
  Node* node = nullptr;
  if (IsOp("-") || IsOp("+")) {
    DepthGuard guard(this);
    if (failed()) return Make(NodeType::kConst);
    node = Make(NodeType::kUnary);
    node->text = Current().text;
    Next();
    node->left = Unary(false);
  } else {
    node = Primary();
  }
  node = Postfix(node);
  return with_filters ? Filters(node) : node;
}

Node* ExpressionParser::Constant(Value value) {
  Node* node = Make(NodeType::kConst);
  node->value = std::move(value);
  return node;
}

Node* ExpressionParser::Primary() {
  const Token& token = Current();
  switch (token.type) {
    case Type::kName: {
      Node* node = Make(NodeType::kName);
      node->text = token.text;
      Next();
      if (node->text == "true" || node->text == "True") return Constant(Value::Bool(true));
      if (node->text == "false" || node->text == "False") return Constant(Value::Bool(false));
      if (node->text == "none" || node->text == "None") return Constant(Value::None());
      node->name = Intern(node->text);
      for (Node* macro : macros_) {
        macro->uses_varargs = macro->uses_varargs || node->name == out_->varargs_name;
        macro->uses_kwargs = macro->uses_kwargs || node->name == out_->kwargs_name;
        macro->uses_caller = macro->uses_caller || node->name == out_->caller_name;
      }
      return node;
    }
    case Type::kString: {
      std::string text = token.text;
      Next();
      while (Current().type == Type::kString) {
        text += Current().text;
        Next();
      }
      return Constant(Value::String(std::move(text)));
    }
    case Type::kInteger: {
      bool overflow = false;
      const std::optional<Int> number =
          ParseInt(token.text, token.text[0] == '0' ? 0 : 10, &overflow);
      if (!number || overflow) return Fail(absl::StrCat("bad number '", token.text, "'"));
      Next();
      return Constant(Value::Integer(*number));
    }
    case Type::kFloat: {
      const std::optional<double> number = ParseFloat(token.text);
      if (!number) return Fail(absl::StrCat("bad number '", token.text, "'"));
      Next();
      return Constant(Value::Float(*number));
    }
    case Type::kOperator:
      if (token.text == "(") return Parenthesis();
      if (token.text == "[") return ListLiteral();
      if (token.text == "{") return DictLiteral();
      [[fallthrough]];
    default:
      return Fail(absl::StrCat("expected an expression, got ", Describe()));
  }
}

Node* ExpressionParser::Parenthesis() {
  DepthGuard guard(this);
  Next();
  Node* node = TupleOrExpression(true, "", true);
  ExpectOp(")");
  return node;
}

Node* ExpressionParser::ListLiteral() {
  DepthGuard guard(this);
  Node* node = Make(NodeType::kListLiteral);
  Next();
  while (!IsOp("]") && !failed()) {
    node->children.push_back(Expression());
    if (!SkipOp(",")) break;
  }
  ExpectOp("]");
  return node;
}

Node* ExpressionParser::DictLiteral() {
  DepthGuard guard(this);
  Node* node = Make(NodeType::kDictLiteral);
  Next();
  while (!IsOp("}") && !failed()) {
    node->children.push_back(Expression());
    ExpectOp(":");
    node->children.push_back(Expression());
    if (!SkipOp(",")) break;
  }
  ExpectOp("}");
  return node;
}

Node* ExpressionParser::Postfix(Node* node) {
  while (!failed()) {
    if (IsOp(".")) {
      Next();
      if (Current().type == Type::kInteger) {
        node = Binary(NodeType::kGetItem, "", node, Primary());
      } else {
        Node* attribute = Make(NodeType::kGetAttr);
        attribute->left = node;
        attribute->text = ExpectName();
        node = attribute;
      }
    } else if (IsOp("[")) {
      node = Subscript(node);
    } else if (IsOp("(")) {
      node = Call(node);
    } else {
      break;
    }
  }
  return node;
}

Node* ExpressionParser::Subscript(Node* object) {
  DepthGuard guard(this);
  Next();
  std::vector<Node*> items;
  bool is_tuple = false;
  while (!failed()) {
    items.push_back(SliceOrExpression());
    if (!SkipOp(",")) break;
    is_tuple = true;
    if (IsOp("]")) break;
  }
  ExpectOp("]");
  if (failed()) return object;
  Node* index = items[0];
  if (is_tuple) {
    index = Make(NodeType::kTupleLiteral);
    index->children = std::move(items);
  }
  return Binary(NodeType::kGetItem, "", object, index);
}

Node* ExpressionParser::SliceOrExpression() {
  Node* first = IsOp(":") ? nullptr : Expression();
  if (!IsOp(":")) return first;
  Node* slice = Make(NodeType::kSlice);
  Next();
  slice->left = first;
  if (!IsOp(":") && !IsOp("]") && !IsOp(",")) slice->right = Expression();
  if (SkipOp(":") && !IsOp("]") && !IsOp(",")) slice->third = Expression();
  return slice;
}

void ExpressionParser::Arguments(std::vector<Argument>* arguments) {
  ExpectOp("(");
  while (!IsOp(")") && !failed()) {
    Argument argument;
    if (SkipOp("*")) {
      argument.type = Argument::Type::kSpread;
    } else if (SkipOp("**")) {
      argument.type = Argument::Type::kNamedSpread;
    } else if (Current().type == Type::kName && Ahead().type == Type::kOperator &&
               Ahead().text == "=") {
      argument.type = Argument::Type::kNamed;
      argument.name = ExpectName();
      Next();
    } else if (!arguments->empty() && arguments->back().type == Argument::Type::kNamed) {
      Fail("a positional argument follows a named one");
    }
    argument.value = Expression();
    arguments->push_back(std::move(argument));
    if (!SkipOp(",")) break;
  }
  ExpectOp(")");
}

Node* ExpressionParser::Call(Node* callee) {
  DepthGuard guard(this);
  Node* node = Make(NodeType::kCall);
  node->left = callee;
  Arguments(&node->arguments);
  return node;
}

std::string ExpressionParser::DottedName() {
  std::string name = ExpectName();
  while (SkipOp(".")) name += "." + ExpectName();
  return name;
}

Node* ExpressionParser::Filters(Node* node, bool start_inline) {
  while (!failed()) {
    if (IsOp("|") || start_inline) {
      if (!start_inline) Next();
      start_inline = false;
      Node* filter = Make(NodeType::kFilter);
      filter->left = node;
      filter->text = DottedName();
      if (IsOp("(")) {
        DepthGuard guard(this);
        Arguments(&filter->arguments);
      }
      node = filter;
    } else if (node != nullptr && IsName("is")) {
      node = Test(node);
    } else if (node != nullptr && IsOp("(")) {
      node = Call(node);
    } else {
      break;
    }
  }
  return node;
}

Node* ExpressionParser::Test(Node* operand) {
  Node* test = Make(NodeType::kTest);
  Next();
  test->left = operand;
  test->flag = SkipName("not");
  test->text = DottedName();
  if (IsOp("(")) {
    DepthGuard guard(this);
    Arguments(&test->arguments);
    return test;
  }
  const Type type = Current().type;
  const bool starts_value = type == Type::kName || type == Type::kString ||
                            type == Type::kInteger || type == Type::kFloat || IsOp("(") ||
                            IsOp("[") || IsOp("{");
  if (starts_value && !IsName("else") && !IsName("or") && !IsName("and")) {
    if (IsName("is")) return Fail("tests cannot be chained with 'is'");
    // "x is string if ..." and "x is odd in ...": the words of the grammar are not operands here.
    DepthGuard guard(this);
    Argument argument;
    argument.value = Postfix(Primary());
    test->arguments.push_back(std::move(argument));
  }
  return test;
}

}  // namespace modu::text::jinja
