#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/text/regex.h"

namespace modu::text {
namespace {

// White_Space. PCRE2's own \s has U+180E too.
constexpr char kSpaces[] =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr char kNotSpaces[] =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-"
    "\\x{10ffff}";
// Alphabetic, M, Nd, Pc; the ranges are the letters among the symbols.
constexpr char kWords[] =
    "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}"
    "\\x{1f170}-\\x{1f189}";
constexpr int kMaxClassDepth = 16;

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    std::string out;
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      if (c == '\\') {
        if (absl::Status s = Escape(&out); !s.ok()) return s;
      } else if (c == '[') {
        absl::StatusOr<std::string> cls = Class(0);
        if (!cls.ok()) return cls.status();
        out += *cls;
      } else {
        out.push_back(c);
        ++pos_;
      }
    }
    return out;
  }

 private:
  absl::Status Escape(std::string* out) {
    if (pos_ + 1 >= in_.size()) return absl::InvalidArgumentError("regex: ends in a backslash");
    const char e = in_[pos_ + 1];
    pos_ += 2;
    switch (e) {
      case 's':
        absl::StrAppend(out, "[", kSpaces, "]");
        break;
      case 'S':
        absl::StrAppend(out, "[^", kSpaces, "]");
        break;
      case 'w':
        absl::StrAppend(out, "[", kWords, "]");
        break;
      case 'W':
        absl::StrAppend(out, "[^", kWords, "]");
        break;
      case 'h':
        *out += "[0-9a-fA-F]";
        break;
      case 'H':
        *out += "[^0-9a-fA-F]";
        break;
      default:
        *out += '\\';
        *out += e;
    }
    return absl::OkStatus();
  }

  /// An escape inside a class, or a plain character.
  absl::Status ClassItem(std::string* out) {
    if (in_[pos_] != '\\') {
      out->push_back(in_[pos_++]);
      return absl::OkStatus();
    }
    if (pos_ + 1 >= in_.size()) return absl::InvalidArgumentError("regex: ends in a backslash");
    const char e = in_[pos_ + 1];
    pos_ += 2;
    if (e == 's') {
      *out += kSpaces;
    } else if (e == 'S') {
      *out += kNotSpaces;
    } else if (e == 'w') {
      *out += kWords;
    } else if (e == 'h') {
      *out += "0-9a-fA-F";
    } else if (e == 'W' || e == 'H') {
      return absl::InvalidArgumentError(
          absl::StrCat("regex: \\", std::string(1, e), " inside a class is not supported"));
    } else {
      *out += '\\';
      *out += e;
    }
    return absl::OkStatus();
  }

  /// At '['. [a&&b] becomes (?=[a])[b]; a nested class without ^ becomes part of its parent.
  absl::StatusOr<std::string> Class(int depth) {
    if (depth > kMaxClassDepth) return absl::InvalidArgumentError("regex: classes nested too deep");
    ++pos_;
    const bool negated = pos_ < in_.size() && in_[pos_] == '^';
    if (negated) ++pos_;
    std::vector<std::string> parts(1);
    std::vector<size_t> whole;  // parts that are classes of their own
    bool first = true;
    while (true) {
      if (pos_ >= in_.size()) return absl::InvalidArgumentError("regex: a class without its ]");
      const char c = in_[pos_];
      if (c == ']' && !first) {
        ++pos_;
        break;
      }
      first = false;
      if (c == '[' && pos_ + 1 < in_.size() && in_[pos_ + 1] == ':') {
        const size_t end = in_.find(":]", pos_);
        if (end == std::string_view::npos) {
          return absl::InvalidArgumentError("regex: [: without :]");
        }
        parts.back() += in_.substr(pos_, end + 2 - pos_);
        pos_ = end + 2;
      } else if (c == '[') {
        absl::StatusOr<std::string> inner = Class(depth + 1);
        if (!inner.ok()) return inner;
        const bool plain = inner->size() >= 2 && inner->front() == '[' && (*inner)[1] != '^';
        if (plain) {
          parts.back() += inner->substr(1, inner->size() - 2);
        } else if (parts.back().empty() && PartEnds()) {
          parts.back() = *inner;  // [^x] or an intersection stands alone between && and &&
          whole.push_back(parts.size() - 1);
        } else {
          return absl::InvalidArgumentError(
              "regex: a negated class inside a class is not supported");
        }
      } else if (in_.substr(pos_, 2) == "&&") {
        parts.emplace_back();
        pos_ += 2;
      } else if (absl::Status s = ClassItem(&parts.back()); !s.ok()) {
        return s;
      }
    }
    return Join(parts, whole, negated);
  }

  bool PartEnds() const {
    return pos_ < in_.size() && (in_[pos_] == ']' || in_.substr(pos_, 2) == "&&");
  }

  static absl::StatusOr<std::string> Join(const std::vector<std::string>& parts,
                                          const std::vector<size_t>& whole, bool negated) {
    std::vector<std::string> classes;
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool alone = std::find(whole.begin(), whole.end(), i) != whole.end();
      if (!alone && parts[i].empty()) return absl::InvalidArgumentError("regex: an empty class");
      classes.push_back(alone ? parts[i] : absl::StrCat("[", parts[i], "]"));
    }
    if (classes.size() == 1) {
      if (!negated) return classes[0];
      if (classes[0].size() > 1 && classes[0][0] == '[' && classes[0][1] != '^') {
        return absl::StrCat("[^", classes[0].substr(1));
      }
      return absl::InvalidArgumentError("regex: a doubly negated class is not supported");
    }
    std::string all;
    for (size_t i = 0; i + 1 < classes.size(); ++i) absl::StrAppend(&all, "(?=", classes[i], ")");
    all += classes.back();
    return negated ? absl::StrCat("(?:(?!", all, ")(?s:.))") : absl::StrCat("(?:", all, ")");
  }

  std::string_view in_;
  size_t pos_ = 0;
};

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace modu::text
