#include "server/text/jinja_parser.h"

#include <array>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/jinja_lexer.h"
#include "server/text/jinja_number.h"

namespace modu::text::jinja {
namespace {

using Type = TokenType;

class Parser {
 public:
  Parser(std::vector<Token> tokens, int max_depth)
      : tokens_(std::move(tokens)), max_depth_(max_depth), out_(std::make_unique<Template>()) {
    out_->loop_name = Intern("loop");
    out_->caller_name = Intern("caller");
    out_->varargs_name = Intern("varargs");
    out_->kwargs_name = Intern("kwargs");
  }

  absl::StatusOr<std::unique_ptr<Template>> Run() {
    out_->root = Body({});
    if (!error_.ok()) return error_;
    return std::move(out_);
  }

 private:
  struct DepthGuard {
    explicit DepthGuard(Parser* p) : parser(p) {
      if (++parser->depth_ > parser->max_depth_) {
        parser->Fail(absl::StrCat("nested deeper than the limit of ", parser->max_depth_));
      }
    }
    ~DepthGuard() { --parser->depth_; }
    Parser* parser;
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
      case Type::kEnd:
        return "the end of the template";
      case Type::kString:
        return "a string";
      case Type::kData:
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
    return Current().type == Type::kOperator && Current().text == op;
  }
  bool IsName(std::string_view name) const {
    return Current().type == Type::kName && Current().text == name;
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
    if (Current().type != Type::kName) {
      Fail(absl::StrCat("expected a name, got ", Describe()));
      return "";
    }
    std::string name = Current().text;
    Next();
    return name;
  }
  void ExpectBlockEnd() {
    if (Current().type != Type::kBlockEnd) {
      Fail(absl::StrCat("expected '%}', got ", Describe()));
      return;
    }
    Next();
  }

  // Statements
  // -------------------------------------------------------------------------------------------------

  /// Until one of the tag names in `ends` stands after "{%" (consumed up to the name, which stays),
  /// or the end.
  Node* Body(std::initializer_list<std::string_view> ends) {
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

  /// The body, its end tag's name and "%}".
  Node* BodyThrough(std::string_view end) {
    Node* body = Body({end});
    SkipName(end);
    ExpectBlockEnd();
    return body;
  }

  Node* Statement() {
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

  Node* Print() {
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

  Node* For() {
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

  Node* If() {
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

  Node* Set() {
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

  void Signature(Node* node) {
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

  /// Loops around a macro's definition are not loops of its body.
  Node* MacroBody(Node* macro, std::string_view end) {
    const int outer = std::exchange(loop_depth_, 0);
    macros_.push_back(macro);
    Node* body = BodyThrough(end);
    macros_.pop_back();
    loop_depth_ = outer;
    return body;
  }

  Node* Macro() {
    Node* node = Make(NodeType::kMacro);
    Next();
    node->text = ExpectName();
    node->name = Intern(node->text);
    Signature(node);
    ExpectBlockEnd();
    node->body = MacroBody(node, "endmacro");
    return node;
  }

  Node* CallBlock() {
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

  Node* FilterBlock() {
    Node* node = Make(NodeType::kFilterBlock);
    Next();
    node->left = Filters(nullptr, true);
    ExpectBlockEnd();
    node->body = BodyThrough("endfilter");
    return node;
  }

  Node* With() {
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

  /// What may be assigned to: a name, ns.attribute, or a tuple of these, nested.
  Node* Target(bool with_namespace, bool single = false) {
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

  // Expressions
  // ------------------------------------------------------------------------------------------------

  bool AtTupleEnd(std::string_view end_name) const {
    return Current().type == Type::kVariableEnd || Current().type == Type::kBlockEnd || IsOp(")") ||
           (!end_name.empty() && IsName(end_name));
  }

  Node* TupleOrExpression(bool with_conditional = true, std::string_view end_name = "",
                          bool parenthesised = false) {
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

  Node* Expression() {
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

  Node* Binary(NodeType type, std::string op, Node* left, Node* right) {
    Node* node = Make(type);
    node->text = std::move(op);
    node->left = left;
    node->right = right;
    return node;
  }

  Node* Or() {
    Node* left = And();
    while (SkipName("or")) left = Binary(NodeType::kOr, "or", left, And());
    return left;
  }

  Node* And() {
    Node* left = Not();
    while (SkipName("and")) left = Binary(NodeType::kAnd, "and", left, Not());
    return left;
  }

  Node* Not() {
    if (!IsName("not")) return Compare();
    DepthGuard guard(this);
    if (failed()) return Make(NodeType::kConst);
    Node* node = Make(NodeType::kNot);
    Next();
    node->left = Not();
    return node;
  }

  Node* Compare() {
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

  Node* Sum() {
    Node* left = Concat();
    while (IsOp("+") || IsOp("-")) {
      std::string op = Current().text;
      Next();
      left = Binary(NodeType::kBinary, std::move(op), left, Concat());
    }
    return left;
  }

  Node* Concat() {
    Node* first = Product();
    if (!IsOp("~")) return first;
    Node* node = Make(NodeType::kConcat);
    node->children.push_back(first);
    while (SkipOp("~")) node->children.push_back(Product());
    return node;
  }

  Node* Product() {
    Node* left = Power();
    while (IsOp("*") || IsOp("/") || IsOp("//") || IsOp("%")) {
      std::string op = Current().text;
      Next();
      left = Binary(NodeType::kBinary, std::move(op), left, Power());
    }
    return left;
  }

  Node* Power() {  // left-associative in Jinja
    Node* left = Unary(true);
    while (SkipOp("**")) left = Binary(NodeType::kBinary, "**", left, Unary(true));
    return left;
  }

  Node* Unary(bool with_filters) {
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

  Node* Constant(Value value) {
    Node* node = Make(NodeType::kConst);
    node->value = std::move(value);
    return node;
  }

  Node* Primary() {
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

  Node* Parenthesis() {
    DepthGuard guard(this);
    Next();
    Node* node = TupleOrExpression(true, "", true);
    ExpectOp(")");
    return node;
  }

  Node* ListLiteral() {
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

  Node* DictLiteral() {
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

  Node* Postfix(Node* node) {
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

  Node* Subscript(Node* object) {
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

  Node* SliceOrExpression() {
    Node* first = IsOp(":") ? nullptr : Expression();
    if (!IsOp(":")) return first;
    Node* slice = Make(NodeType::kSlice);
    Next();
    slice->left = first;
    if (!IsOp(":") && !IsOp("]") && !IsOp(",")) slice->right = Expression();
    if (SkipOp(":") && !IsOp("]") && !IsOp(",")) slice->third = Expression();
    return slice;
  }

  void Arguments(std::vector<Argument>* arguments) {
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

  Node* Call(Node* callee) {
    DepthGuard guard(this);
    Node* node = Make(NodeType::kCall);
    node->left = callee;
    Arguments(&node->arguments);
    return node;
  }

  std::string DottedName() {
    std::string name = ExpectName();
    while (SkipOp(".")) name += "." + ExpectName();
    return name;
  }

  /// Filters, tests and calls after an expression. For filter blocks node is null, and with
  /// start_inline the first filter has no "|".
  Node* Filters(Node* node, bool start_inline = false) {
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

  Node* Test(Node* operand) {
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

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  const int max_depth_;
  int loop_depth_ = 0;
  std::vector<Node*> macros_;  // around the current place
  absl::Status error_;
  std::unique_ptr<Template> out_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Template>> ParseTemplate(std::string_view source, int max_depth) {
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens), max_depth).Run();
}

}  // namespace modu::text::jinja
