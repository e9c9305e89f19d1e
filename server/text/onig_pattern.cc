#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/text/onig_properties.h"
#include "server/text/regex.h"

namespace modu::text {
namespace {

constexpr int kMaxClassDepth = 16;
constexpr size_t kMaxGroupDepth = 200;

absl::Status Unsupported(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("regex: ", what, " is not supported"));
}

/// A set of characters on its way into PCRE2: what may stand between [ and ], and expressions of
/// one character each that cannot.
struct CharSet {
  std::string items;
  std::vector<std::string> others;

  std::string Expression() const {
    if (others.empty()) return absl::StrCat("[", items, "]");
    if (items.empty() && others.size() == 1) return others[0];
    const std::string rest = absl::StrJoin(others, "|");
    return items.empty() ? absl::StrCat("(?:", rest, ")")
                         : absl::StrCat("(?:[", items, "]|", rest, ")");
  }
  void Add(const PropertySet& set) {
    if (!set.inverted) {
      items += set.items;
    } else {
      others.push_back(set.Expression());
    }
  }
};

/// Rewrites an expression of Oniguruma's own syntax for PCRE2 (with UTF, UCP and MULTILINE).
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    groups_.push_back({});
    while (pos_ < in_.size() && status_.ok()) Item();
    if (!status_.ok()) return status_;
    CloseOptions();  // an unclosed group is PCRE2's to refuse
    return std::move(out_);
  }

 private:
  void Item() {
    const char c = in_[pos_];
    if (c == '{') return Interval();
    if (c != '*' && c != '+' && c != '?') atom_ = out_.size();
    if (c == '\\') {
      Escape();
    } else if (c == '[') {
      absl::StatusOr<CharSet> set = Class(0);
      if (!set.ok()) return Fail(set.status());
      out_ += set->Expression();
    } else if (c == '(') {
      Group();
    } else if (c == ')') {
      ++pos_;
      CloseOptions();
      out_ += ')';
      atom_ = groups_.back().begin;
      if (groups_.size() > 1) groups_.pop_back();
    } else {
      out_ += c;
      ++pos_;
    }
  }

  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  bool At(std::string_view text) const { return in_.substr(pos_, text.size()) == text; }

  // -- groups

  struct GroupState {
    size_t begin = 0;    // in out_
    size_t options = 0;  // of (?i) and the like, that reach to its end
    bool extended = false;
  };

  void CloseOptions() {
    GroupState& group = groups_.back();
    for (; group.options > 0; --group.options) out_ += group.extended ? "\n)" : ")";
  }

  void Group() {
    if (groups_.size() >= kMaxGroupDepth) return Fail(Unsupported("nesting this deep"));
    if (At("(*")) return Fail(Unsupported("(*"));
    if (At("(?~")) return Fail(Unsupported("the absent operator (?~"));
    if (At("(?#")) {
      for (pos_ += 3; pos_ < in_.size() && in_[pos_] != ')'; ++pos_) pos_ += in_[pos_] == '\\';
      if (pos_ >= in_.size()) return Fail(absl::InvalidArgumentError("regex: (?# without )"));
      ++pos_;
      return;
    }
    const size_t end = At("(?") ? in_.find_first_not_of("imx-", pos_ + 2) : pos_ + 2;
    const bool options = end != std::string_view::npos && end > pos_ + 2;
    if (!options || (in_[end] != ')' && in_[end] != ':')) {
      groups_.push_back({atom_});
      out_ += in_[pos_++];
      // "?", "<", "=", "!" and so on are copied as they come; a quantifier cannot follow "(".
      return;
    }
    out_ += "(?";
    const size_t begin = pos_ + 2;
    for (size_t i = begin; i < end; ++i) out_ += in_[i] == 'm' ? 's' : in_[i];
    out_ += ':';
    pos_ = end + 1;
    if (in_[end] == ':') {
      groups_.push_back({atom_});
    } else {  // a|(?i)b|c: to the end of the group, alternatives and all
      ++groups_.back().options;
      // A comment must not swallow what closes it.
      const std::string_view letters = in_.substr(begin, end - begin);
      groups_.back().extended |= letters.find('x') != std::string_view::npos;
    }
  }

  /// At '{'. {n,m}? and so on are PCRE2's; {n}? is "n or none" and {n,m}+ not possessive.
  void Interval() {
    size_t at = pos_ + 1;
    const auto number = [&] {
      const size_t begin = at;
      while (at < in_.size() && in_[at] >= '0' && in_[at] <= '9') ++at;
      return in_.substr(begin, at - begin);
    };
    const std::string_view low = number();
    const bool comma = at < in_.size() && in_[at] == ',';
    if (comma) ++at;
    const std::string_view high = comma ? number() : low;
    if (at >= in_.size() || in_[at] != '}' || (low.empty() && high.empty())) {
      atom_ = out_.size();
      out_ += "\\{";
      ++pos_;
      return;
    }
    pos_ = at + 1;
    out_ += '{';
    out_ += low.empty() ? "0" : low;
    if (comma) out_ += ',';
    if (comma) out_ += high;
    out_ += '}';
    if (At("+") || (!comma && At("?"))) {  // a quantifier of its own
      out_.insert(atom_, "(?:");
      out_ += ')';
      out_ += in_[pos_++];
    }
  }

  // -- escapes

  void Escape() {
    if (pos_ + 1 >= in_.size())
      return Fail(absl::InvalidArgumentError("regex: ends in a backslash"));
    static const std::string& word = *new std::string(absl::StrCat("[", kOnigWordOutside, "]"));
    const char e = in_[pos_ + 1];
    if (const auto set = SetEscape(/*in_class=*/false)) {
      out_ += set->Expression();
      return;
    }
    if (!status_.ok()) return;
    if (const auto code = CodePointEscape()) {
      absl::StrAppend(&out_, "\\x{", absl::Hex(*code), "}");
      return;
    }
    if (!status_.ok()) return;
    pos_ += 2;
    switch (e) {
      case 'b':
        absl::StrAppend(&out_, "(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
        return;
      case 'B':
        absl::StrAppend(&out_, "(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
        return;
      case 'O':
        out_ += "(?s:.)";
        return;
      case 'N':
        out_ += "(?-s:.)";
        return;
      case 'X':
      case 'y':
      case 'Y':
        return Fail(Unsupported("text segmentation (\\X, \\y, \\Y)"));
      default:
        Other(e, "AzZGRKkgdDtnrfae", &out_);
    }
  }

  /// An escape that PCRE2 has too (`known` letters, digits, punctuation), or a plain letter.
  static void Other(char e, std::string_view known, std::string* out) {
    const bool letter = (e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z');
    if (!letter || known.find(e) != std::string_view::npos) *out += '\\';
    *out += e;
  }

  /// \s \S \w \W \h \H \p{} \P{} at pos_, stepped over; nullopt where it is none of them.
  std::optional<PropertySet> SetEscape(bool in_class) {
    const char e = in_[pos_ + 1];
    const char* const word = in_class ? kOnigWord : kOnigWordOutside;
    std::optional<PropertySet> set;
    if (e == 's') set = {std::string(kOnigSpaces), false};
    if (e == 'S' && in_class) set = {std::string(kOnigNotSpaces), false};
    if (e == 'S' && !in_class) set = {std::string(kOnigSpaces), true};
    if (e == 'w' || e == 'W') set = {std::string(word), e == 'W'};
    if (e == 'h' || e == 'H') set = {"0-9a-fA-F", e == 'H'};
    if (set) {
      pos_ += 2;
      return set;
    }
    if ((e != 'p' && e != 'P') || pos_ + 2 >= in_.size() || in_[pos_ + 2] != '{') {
      return std::nullopt;
    }
    const size_t end = in_.find('}', pos_);
    if (end == std::string_view::npos) {
      Fail(absl::InvalidArgumentError("regex: \\p{ without }"));
      return std::nullopt;
    }
    std::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
    pos_ = end + 1;
    const bool caret = name.substr(0, 1) == "^";
    if (caret) name.remove_prefix(1);
    absl::StatusOr<PropertySet> property = OnigProperty(name);
    if (!property.ok()) {
      Fail(property.status());
      return std::nullopt;
    }
    if (caret != (e == 'P')) property->Invert();
    return *std::move(property);
  }

  /// \x{H}, \xHH, \uHHHH, \cX, \C-X and \v at pos_, stepped over.
  std::optional<uint32_t> CodePointEscape() {
    const char e = in_[pos_ + 1];
    if (e == 'v') {
      pos_ += 2;
      return 0xB;
    }
    if (e == 'x' || e == 'u') {
      const bool braces = e == 'x' && pos_ + 2 < in_.size() && in_[pos_ + 2] == '{';
      const size_t most = braces ? 8 : e == 'u' ? 4 : 2, begin = pos_ + (braces ? 3 : 2);
      uint32_t code = 0;
      size_t at = begin;
      for (; at < in_.size() && at < begin + most && absl::ascii_isxdigit(in_[at]); ++at) {
        const char c = in_[at];
        code = code * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
      }
      const bool whole = braces ? at < in_.size() && in_[at] == '}' : e != 'u' || at == begin + 4;
      if (at == begin || !whole) {
        Fail(absl::InvalidArgumentError("regex: \\x or \\u without its digits"));
        return std::nullopt;
      }
      pos_ = at + braces;
      return code;
    }
    const size_t letter = pos_ + (At("\\C-") ? 3 : 2);
    if ((e == 'c' || letter == pos_ + 3) && letter < in_.size()) {
      const auto c = static_cast<unsigned char>(in_[letter]);
      if (c >= 0x80 || c == '\\') {
        Fail(Unsupported("a control of this character"));
        return std::nullopt;
      }
      pos_ = letter + 1;
      return c == '?' ? 0x7F : c & 0x1F;
    }
    if (e == 'C' || e == 'M' || e == 'c' || e == 'o') {
      Fail(Unsupported(absl::StrCat("\\", std::string(1, e))));
    }
    return std::nullopt;
  }

  // -- classes

  /// An escape inside a class, or a plain character.
  void ClassItem(CharSet* set) {
    if (in_[pos_] != '\\') {
      set->items.push_back(in_[pos_++]);
      return;
    }
    if (pos_ + 1 >= in_.size())
      return Fail(absl::InvalidArgumentError("regex: ends in a backslash"));
    const char e = in_[pos_ + 1];
    if (const auto property = SetEscape(/*in_class=*/true)) return set->Add(*property);
    if (!status_.ok()) return;
    if (const auto code = CodePointEscape()) {
      absl::StrAppend(&set->items, "\\x{", absl::Hex(*code), "}");
      return;
    }
    pos_ += 2;
    Other(e, "dDtnrfaeb", &set->items);
  }

  /// At "[:". False: it is no bracket of a name.
  bool NamedBracket(CharSet* set) {
    const size_t end = in_.find(":]", pos_ + 2);
    if (end == std::string_view::npos) return false;
    std::string_view name = in_.substr(pos_ + 2, end - pos_ - 2);
    const bool caret = name.substr(0, 1) == "^";
    if (caret) name.remove_prefix(1);
    std::optional<PropertySet> property = OnigBracket(name);
    if (!property) return false;
    if (caret) property->Invert();
    set->Add(*property);
    pos_ = end + 2;
    return true;
  }

  /// At '['. [a&&b] is an intersection, a class inside a class part of a union.
  absl::StatusOr<CharSet> Class(int depth) {
    if (depth > kMaxClassDepth) return absl::InvalidArgumentError("regex: classes nested too deep");
    ++pos_;
    const bool negated = At("^");
    if (negated) ++pos_;
    std::vector<CharSet> parts(1);
    for (bool first = true; first || !At("]"); first = false) {
      if (pos_ >= in_.size()) return absl::InvalidArgumentError("regex: a class without its ]");
      if (At("[:") && NamedBracket(&parts.back())) continue;
      if (At("[")) {
        absl::StatusOr<CharSet> inner = Class(depth + 1);
        if (!inner.ok()) return inner;
        parts.back().items += inner->items;
        for (std::string& other : inner->others) parts.back().others.push_back(std::move(other));
      } else if (At("&&")) {
        parts.emplace_back();
        pos_ += 2;
      } else if (first && At("]")) {
        parts.back().items += "\\]";
        ++pos_;
      } else {
        ClassItem(&parts.back());
        if (!status_.ok()) return status_;
      }
    }
    ++pos_;
    return Join(parts, negated);
  }

  static absl::StatusOr<CharSet> Join(const std::vector<CharSet>& parts, bool negated) {
    for (const CharSet& part : parts) {
      if (part.items.empty() && part.others.empty()) {
        return absl::InvalidArgumentError("regex: an empty class");
      }
    }
    if (parts.size() == 1 && !negated) return parts[0];
    CharSet set;
    if (parts.size() == 1 && parts[0].others.empty()) {
      set.others.push_back(absl::StrCat("[^", parts[0].items, "]"));
      return set;
    }
    std::string all;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      absl::StrAppend(&all, "(?=", parts[i].Expression(), ")");
    }
    all += parts.back().Expression();
    set.others.push_back(negated ? absl::StrCat("(?:(?!", all, ")(?s:.))")
                                 : absl::StrCat("(?:", all, ")"));
    return set;
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where in out_ what a quantifier repeats begins
  std::vector<GroupState> groups_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace modu::text
