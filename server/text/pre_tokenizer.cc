#include "server/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "server/text/byte_alphabet.h"

namespace modu::text {
namespace {

/// The pieces that `text` falls into, given the matches in it; `base` is where it stands in the
/// whole.
void CutPieces(size_t base, size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
               bool invert, std::vector<Span>* pieces) {
  struct Part {
    Span span;
    bool is_match;
  };
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  size_t pos = 0;
  for (const Span& m : matches) {
    if (m.begin > pos) parts.push_back({{pos, m.begin}, invert});
    parts.push_back({m, !invert});
    pos = m.end;
  }
  if (pos < size) parts.push_back({{pos, size}, invert});

  std::vector<Span> out;
  out.reserve(parts.size());
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& p : parts) out.push_back(p.span);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& p : parts) {
        if (!p.is_match) out.push_back(p.span);
      }
      break;
    case SplitBehavior::kContiguous:
      for (const Part& p : parts) {
        if (p.is_match == previous && !out.empty()) {
          out.back().end = p.span.end;
        } else {
          out.push_back(p.span);
        }
        previous = p.is_match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& p : parts) {
        if (p.is_match && !previous && !out.empty()) {
          out.back().end = p.span.end;
        } else {
          out.push_back(p.span);
        }
        previous = p.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto p = parts.rbegin(); p != parts.rend(); ++p) {
        if (p->is_match && !previous && !out.empty()) {
          out.back().begin = p->span.begin;
        } else {
          out.push_back(p->span);
        }
        previous = p->is_match;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  for (const Span& s : out) {
    if (s.begin < s.end) pieces->push_back({base + s.begin, base + s.end});
  }
}

/// One that finds matches in each piece and cuts there.
class Cutter : public PreTokenizer {
 public:
  Cutter(SplitBehavior behavior, bool invert) : behavior_(behavior), invert_(invert) {}

  absl::Status Apply(PreTokenized* state) const override {
    std::vector<Span> pieces, matches;
    pieces.reserve(state->text.size() / 4 + 1);
    for (const Span& piece : state->pieces) {
      matches.clear();
      const size_t size = piece.end - piece.begin;
      const auto text = std::string_view(state->text).substr(piece.begin, size);
      if (absl::Status s = Find(text, &matches); !s.ok()) return s;
      if (behavior_ == SplitBehavior::kIsolated && Covers(matches, size)) {
        for (const Span& m : matches)
          pieces.push_back({piece.begin + m.begin, piece.begin + m.end});
      } else {
        CutPieces(piece.begin, size, matches, behavior_, invert_, &pieces);
      }
    }
    if (!pieces.empty() && pieces[0].begin != 0) state->at_start = false;
    state->pieces = std::move(pieces);
    return absl::OkStatus();
  }

 protected:
  virtual absl::Status Find(std::string_view text, std::vector<Span>* matches) const = 0;

 private:
  static bool Covers(const std::vector<Span>& matches, size_t size) {
    size_t pos = 0;
    for (const Span& m : matches) {
      if (m.begin != pos || m.end == m.begin) return false;
      pos = m.end;
    }
    return pos == size;
  }

  SplitBehavior behavior_;
  bool invert_;
};

class PatternSplit : public Cutter {
 public:
  PatternSplit(Matcher pattern, SplitBehavior behavior, bool invert)
      : Cutter(behavior, invert), pattern_(std::move(pattern)) {}

 protected:
  absl::Status Find(std::string_view text, std::vector<Span>* matches) const override {
    return pattern_.FindAll(text, matches);
  }

 private:
  Matcher pattern_;
};

class CharSplit : public Cutter {
 public:
  CharSplit(bool (*test)(uint32_t), SplitBehavior behavior)
      : Cutter(behavior, false), test_(test) {}

 protected:
  absl::Status Find(std::string_view text, std::vector<Span>* matches) const override {
    ForEachChar(text, [&](uint32_t c, size_t begin, size_t end) {
      if (test_(c)) matches->push_back({begin, end});
    });
    return absl::OkStatus();
  }

 private:
  bool (*test_)(uint32_t);
};

/// \w+|[^\w\s]+, what lies between removed.
class Whitespace : public Cutter {
 public:
  Whitespace() : Cutter(SplitBehavior::kRemoved, true) {}

 protected:
  absl::Status Find(std::string_view text, std::vector<Span>* matches) const override {
    int last = 0;
    ForEachChar(text, [&](uint32_t c, size_t begin, size_t end) {
      const int kind = FlagsOf(c) & kSpace ? 0 : IsWord(c) ? 1 : 2;
      if (kind != 0 && kind == last) {
        matches->back().end = end;
      } else if (kind != 0) {
        matches->push_back({begin, end});
      }
      last = kind;
    });
    return absl::OkStatus();
  }
};

/// Rebuilds the text: f(piece, first, &out) appends what a piece becomes.
template <typename F>
void Rewrite(PreTokenized* state, F&& f) {
  std::string out;
  out.reserve(state->text.size() + state->pieces.size());
  for (size_t i = 0; i < state->pieces.size(); ++i) {
    Span& piece = state->pieces[i];
    const auto text = std::string_view(state->text).substr(piece.begin, piece.end - piece.begin);
    const size_t begin = out.size();
    f(text, i == 0 && state->at_start, &out);
    piece = {begin, out.size()};
  }
  state->text = std::move(out);
}

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme) {
    if (split) {
      split_ = std::make_unique<PatternSplit>(Matcher::Literal(replacement_),
                                              SplitBehavior::kMergedWithNext, false);
    }
  }

  absl::Status Apply(PreTokenized* state) const override {
    Rewrite(state, [&](std::string_view text, bool first, std::string* out) {
      const bool has = text.substr(0, replacement_.size()) == replacement_ || text[0] == ' ';
      const bool wanted =
          scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && first);
      if (wanted && !has) out->append(replacement_);
      for (const char c : text) {
        if (c == ' ') {
          out->append(replacement_);
        } else {
          out->push_back(c);
        }
      }
    });
    return split_ == nullptr ? absl::OkStatus() : split_->Apply(state);
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  std::unique_ptr<PreTokenizer> split_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool map_bytes)
      : add_prefix_space_(add_prefix_space), map_bytes_(map_bytes) {
    if (!use_regex) return;
    split_ = std::make_unique<PatternSplit>(*Matcher::Expression(kGpt2Regex),
                                            SplitBehavior::kIsolated, false);
  }

  absl::Status Apply(PreTokenized* state) const override {
    if (add_prefix_space_) {
      Rewrite(state, [](std::string_view text, bool, std::string* out) {
        if (text[0] != ' ') out->push_back(' ');
        out->append(text);
      });
    }
    if (split_ != nullptr) {
      if (absl::Status s = split_->Apply(state); !s.ok()) return s;
    }
    if (map_bytes_) {
      Rewrite(state, [](std::string_view text, bool, std::string* out) {
        out->append(ToByteAlphabet(text));
      });
    }
    return absl::OkStatus();
  }

 private:
  bool add_prefix_space_, map_bytes_;
  std::unique_ptr<PreTokenizer> split_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  absl::Status Apply(PreTokenized* state) const override {
    for (const auto& part : parts_) {
      if (absl::Status s = part->Apply(state); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

bool IsNumeric(uint32_t c) { return (FlagsOf(c) & kNumber) != 0; }
bool IsSpace(uint32_t c) { return (FlagsOf(c) & kSpace) != 0; }
bool IsPunctuation(uint32_t c) {
  // ASCII's symbols ($ + < = > ^ ` | ~) count as punctuation.
  return (FlagsOf(c) & kPunct) || (c < 0x80 && (FlagsOf(c) & kSymbol));
}

}  // namespace

std::unique_ptr<PreTokenizer> MakeSplit(Matcher pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<PatternSplit>(std::move(pattern), behavior, invert);
}
std::unique_ptr<PreTokenizer> MakeCharSplit(bool (*test)(uint32_t), SplitBehavior behavior) {
  return std::make_unique<CharSplit>(test, behavior);
}
std::unique_ptr<PreTokenizer> MakeDigits(bool individual) {
  return MakeCharSplit(IsNumeric,
                       individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}
std::unique_ptr<PreTokenizer> MakePunctuation(SplitBehavior behavior) {
  return MakeCharSplit(IsPunctuation, behavior);
}
std::unique_ptr<PreTokenizer> MakeWhitespace() { return std::make_unique<Whitespace>(); }
std::unique_ptr<PreTokenizer> MakeWhitespaceSplit() {
  return MakeCharSplit(IsSpace, SplitBehavior::kRemoved);
}
std::unique_ptr<PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme,
                                            bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}
std::unique_ptr<PreTokenizer> MakeByteLevel(bool add_prefix_space, bool use_regex, bool map_bytes) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex, map_bytes);
}
std::unique_ptr<PreTokenizer> MakePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

}  // namespace modu::text
