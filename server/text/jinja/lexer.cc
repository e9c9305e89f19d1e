#include "server/text/jinja/lexer.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }
int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string NormaliseNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormaliseNewlines(source)), text_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < text_.size()) {
      const absl::Status status = Data();
      if (!status.ok()) return status;
    }
    Push(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("template line ", line_, ": ", std::string(what)));
  }

  void Push(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }

  void Advance(size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) line_ += text_[at_ + i] == '\n' ? 1 : 0;
    at_ += bytes;
    if (bytes > 0) line_starting_ = text_[at_ - 1] == '\n';
  }

  char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool StartsWith(std::string_view what) const { return text_.substr(at_, what.size()) == what; }

  void SkipSpace() {
    while (at_ < text_.size()) {
      size_t bytes = 0;
      if (!IsSpace(DecodeChar(text_, at_, &bytes))) return;
      Advance(bytes);
    }
  }

  /// The text before a tag, cut as the sign after the tag's opening and lstrip_blocks ask.
  std::string_view Cut(std::string_view data, char sign, bool variable) const {
    if (sign == '-') return Strip(data, false, true, false, "");
    if (sign == '+' || variable) return data;
    const size_t newline = data.rfind('\n');
    const size_t line_start = newline == data.npos ? 0 : newline + 1;
    if (line_start == 0 && !line_starting_) return data;
    const std::string_view tail = data.substr(line_start);
    return Strip(tail, true, false, false, "").empty() ? data.substr(0, line_start) : data;
  }

  void PushData(std::string_view data) {
    if (!data.empty()) Push(TokenType::kData, std::string(data));
  }

  /// After a tag's closing: "-" eats white space, otherwise trim_blocks eats one newline unless "+"
  /// forbids it.
  void AfterClose(char sign) {
    if (sign == '-') {
      SkipSpace();
    } else if (sign != '+' && Peek() == '\n') {
      Advance(1);
    }
  }

  static char SignOf(char c) { return c == '-' || c == '+' ? c : '\0'; }

  absl::Status Data() {
    size_t open = at_;
    while (true) {
      open = text_.find('{', open);
      if (open == text_.npos || open + 1 >= text_.size()) {
        PushData(text_.substr(at_));
        Advance(text_.size() - at_);
        return absl::OkStatus();
      }
      const char kind = text_[open + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++open;
    }
    const std::string_view data = text_.substr(at_, open - at_);
    const char kind = text_[open + 1];
    const char sign = open + 2 < text_.size() ? SignOf(text_[open + 2]) : '\0';
    PushData(Cut(data, sign, kind == '{'));
    Advance(data.size() + 2 + (sign != '\0' ? 1 : 0));
    if (kind == '#') return Comment();
    if (kind == '%') {
      size_t raw_bytes = 0;
      bool strips = false;
      if (RawBegin(&raw_bytes, &strips)) return Raw(raw_bytes, strips);
      Push(TokenType::kBlockBegin, "{%");
      return Tag(true);
    }
    Push(TokenType::kVariableBegin, "{{");
    return Tag(false);
  }

  absl::Status Comment() {
    const size_t close = text_.find("#}", at_);
    if (close == text_.npos) return Error("the comment has no end");
    // The sign belongs to the closing unless it is the opening's own.
    const char sign = close > at_ ? SignOf(text_[close - 1]) : '\0';
    Advance(close + 2 - at_);
    AfterClose(sign);
    return absl::OkStatus();
  }

  /// At the inside of "{%": is this {% raw %}? (white space, the word, white space, closing)
  bool RawBegin(size_t* bytes, bool* strips) const {
    size_t i = at_;
    const auto space = [&] {
      while (i < text_.size() && static_cast<unsigned char>(text_[i]) < 0x80 &&
             IsSpace(static_cast<unsigned char>(text_[i]))) {
        ++i;
      }
    };
    space();
    if (text_.substr(i, 3) != "raw") return false;
    i += 3;
    space();
    *strips = text_.substr(i, 3) == "-%}";
    if (*strips) {
      i += 3;
    } else if (text_.substr(i, 2) == "%}") {
      i += 2;
    } else {
      return false;
    }
    *bytes = i - at_;
    return true;
  }

  absl::Status Raw(size_t begin_bytes, bool strips) {
    Advance(begin_bytes);
    if (strips) SkipSpace();
    size_t open = at_;
    while (true) {
      open = text_.find("{%", open);
      if (open == text_.npos) return Error("{% raw %} has no {% endraw %}");
      size_t i = open + 2;
      const char sign = i < text_.size() ? SignOf(text_[i]) : '\0';
      if (sign != '\0') ++i;
      const auto space = [&] {
        while (i < text_.size() && static_cast<unsigned char>(text_[i]) < 0x80 &&
               IsSpace(static_cast<unsigned char>(text_[i]))) {
          ++i;
        }
      };
      space();
      if (text_.substr(i, 6) == "endraw") {
        i += 6;
        space();
        char close_sign = '\0';
        if (i < text_.size() && SignOf(text_[i]) != '\0') close_sign = text_[i++];
        if (text_.substr(i, 2) == "%}") {
          PushData(Cut(text_.substr(at_, open - at_), sign, false));
          Advance(i + 2 - at_);
          AfterClose(close_sign);
          return absl::OkStatus();
        }
      }
      open += 2;
    }
  }

  absl::Status Tag(bool block) {
    std::string brackets;
    while (true) {
      SkipSpace();
      if (at_ >= text_.size()) {
        return Error(block ? "expected '%}', reached the end" : "expected '}}', reached the end");
      }
      if (brackets.empty()) {
        const size_t signed_bytes = SignOf(Peek()) != '\0' && !(Peek() == '+' && !block) ? 1 : 0;
        const std::string_view close = block ? "%}" : "}}";
        const bool here = StartsWith(close);
        if (here || (signed_bytes == 1 && text_.substr(at_ + 1, 2) == close)) {
          const char sign = here ? '\0' : Peek();
          Push(block ? TokenType::kBlockEnd : TokenType::kVariableEnd, std::string(close));
          Advance(2 + (here ? 0 : 1));
          if (sign == '-' || block) AfterClose(sign);
          return absl::OkStatus();
        }
      }
      const absl::Status status = Lexeme(&brackets);
      if (!status.ok()) return status;
    }
  }

  absl::Status Lexeme(std::string* brackets) {
    const char c = Peek();
    if (IsNameStart(c)) {
      size_t n = 1;
      while (IsNamePart(Peek(n))) ++n;
      Push(TokenType::kName, std::string(text_.substr(at_, n)));
      Advance(n);
      return absl::OkStatus();
    }
    if (IsDigit(c)) return Number();
    if (c == '\'' || c == '"') return StringLiteral(c);
    for (const std::string_view two : {"//", "**", "==", "!=", "<=", ">="}) {
      if (StartsWith(two)) {
        Push(TokenType::kOperator, std::string(two));
        Advance(2);
        return absl::OkStatus();
      }
    }
    if (std::string_view("+-*/%~<>=.,:;|()[]{}").find(c) == std::string_view::npos) {
      return Error(absl::StrCat("unexpected character '",
                                std::string(text_.substr(at_, CharBytes(text_, at_))), "'"));
    }
    if (c == '(' || c == '[' || c == '{') {
      brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets->empty() || brackets->back() != c) {
        return Error(brackets->empty()
                         ? absl::StrCat("unexpected '", std::string(1, c), "'")
                         : absl::StrCat("unexpected '", std::string(1, c), "', expected '",
                                        std::string(1, brackets->back()), "'"));
      }
      brackets->pop_back();
    }
    Push(TokenType::kOperator, std::string(1, c));
    Advance(1);
    return absl::OkStatus();
  }

  size_t Digits(size_t from) const {  // (\d+_)*\d+
    size_t n = from;
    while (IsDigit(Peek(n)) || (Peek(n) == '_' && n > from && IsDigit(Peek(n + 1)))) ++n;
    return n - from;
  }

  absl::Status Number() {
    if (Peek() == '0' && (Peek(1) | 0x20) != 'e') {
      const char kind = static_cast<char>(Peek(1) | 0x20);
      const int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
      if (base != 0) {
        size_t n = 2;
        while (Peek(n) == '_' || (HexValue(Peek(n)) >= 0 && HexValue(Peek(n)) < base)) ++n;
        Push(TokenType::kInteger, std::string(text_.substr(at_, n)));
        Advance(n);
        return absl::OkStatus();
      }
    }
    size_t n = Digits(0);
    bool is_float = false;
    // A dot makes a float only with digits behind it, and not after another dot (a.0.1).
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
    if (!after_dot) {
      size_t m = n;
      if (Peek(m) == '.' && IsDigit(Peek(m + 1))) {
        m += 1 + Digits(m + 1);
        is_float = true;
      }
      if ((Peek(m) | 0x20) == 'e') {
        const size_t sign = Peek(m + 1) == '+' || Peek(m + 1) == '-' ? 1 : 0;
        if (IsDigit(Peek(m + 1 + sign))) {
          m += 1 + sign + Digits(m + 1 + sign);
          is_float = true;
        }
      }
      if (is_float) n = m;
    }
    std::string digits(text_.substr(at_, n));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Push(is_float ? TokenType::kFloat : TokenType::kInteger, std::move(digits));
    Advance(n);
    return absl::OkStatus();
  }

  absl::Status StringLiteral(char quote) {
    std::string value;
    size_t i = at_ + 1;
    for (; i < text_.size() && text_[i] != quote; ++i) {
      if (text_[i] != '\\') {
        value.push_back(text_[i]);
        continue;
      }
      if (++i >= text_.size()) break;
      const absl::Status status = Escape(&i, &value);
      if (!status.ok()) return status;
    }
    if (i >= text_.size()) return Error("the string has no end");
    Push(TokenType::kString, std::move(value));
    Advance(i + 1 - at_);
    return absl::OkStatus();
  }

  /// Python's unicode-escape. *i stands on the character after the backslash and ends on the last
  /// one read.
  absl::Status Escape(size_t* i, std::string* value) {
    const char c = text_[*i];
    static constexpr std::string_view kFrom = "abfnrtv\\'\"";
    static constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t simple = kFrom.find(c); simple != kFrom.npos) {
      value->push_back(kTo[simple]);
      return absl::OkStatus();
    }
    if (c == '\n') return absl::OkStatus();
    const size_t hex_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (hex_digits > 0) {
      uint32_t code = 0;
      for (size_t k = 0; k < hex_digits; ++k) {
        const int digit = *i + 1 < text_.size() ? HexValue(text_[*i + 1]) : -1;
        if (digit < 0)
          return Error(absl::StrCat("'\\", std::string(1, c), "' needs ", hex_digits,
                                    " hexadecimal digits"));
        code = code * 16 + static_cast<uint32_t>(digit);
        ++*i;
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return Error("an escape names no character");
      AppendChar(code, value);
      return absl::OkStatus();
    }
    if (c >= '0' && c <= '7') {
      uint32_t code = static_cast<uint32_t>(c - '0');
      for (int k = 0;
           k < 2 && *i + 1 < text_.size() && text_[*i + 1] >= '0' && text_[*i + 1] <= '7'; ++k) {
        code = code * 8 + static_cast<uint32_t>(text_[++*i] - '0');
      }
      AppendChar(code, value);
      return absl::OkStatus();
    }
    if (c == 'N') return Error("'\\N{...}' is not supported in strings");
    value->push_back('\\');
    value->push_back(c);
    return absl::OkStatus();
  }

  const std::string source_;
  const std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace modu::text::jinja
