#include "server/text/normalizer.h"

#include <utf8proc.h>

#include <utility>

#include "server/text/byte_alphabet.h"
#include "server/text/unicode.h"

namespace modu::text {
namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  absl::Status Apply(bool, std::string* text) const override {
    *text = Normalized(*text, form_);
    return absl::OkStatus();
  }

 private:
  NormalForm form_;
};

/// One that maps characters one by one: f(code_point, &out).
class CharMap : public Normalizer {
 public:
  using Function = void (*)(uint32_t code_point, std::string* out);
  explicit CharMap(Function function) : function_(function) {}
  absl::Status Apply(bool, std::string* text) const override {
    std::string out;
    out.reserve(text->size());
    ForEachChar(*text, [&](uint32_t c, size_t, size_t) { function_(c, &out); });
    *text = std::move(out);
    return absl::OkStatus();
  }

 private:
  Function function_;
};

void Lower(uint32_t c, std::string* out) {
  if (c == 0x130) {  // the only character whose lower case is two
    *out += "i\xCC\x87";
    return;
  }
  AppendUtf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

void DropMarks(uint32_t c, std::string* out) {
  if (!(FlagsOf(c) & kMark)) AppendUtf8(c, out);
}

/// SentencePiece's nmt rules: controls go, odd spaces become spaces.
void Nmt(uint32_t c, std::string* out) {
  const bool control = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                       c == 0x8F || c == 0x9F;
  if (control) return;
  const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                     (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                     c == 0xFEFF || c == 0xFFFD;
  AppendUtf8(space ? ' ' : c, out);
}

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  absl::Status Apply(bool at_start, std::string* text) const override {
    if (at_start && !text->empty()) text->insert(0, prefix_);
    return absl::OkStatus();
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Matcher pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  absl::Status Apply(bool, std::string* text) const override {
    return pattern_.Replace(content_, text);
  }

 private:
  Matcher pattern_;
  std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  absl::Status Apply(bool, std::string* text) const override {
    size_t first = text->size(), last = 0;
    ForEachChar(*text, [&](uint32_t c, size_t begin, size_t end) {
      if (FlagsOf(c) & kSpace) return;
      first = std::min(first, begin);
      last = end;
    });
    if (first == text->size() && (left_ || right_)) {
      text->clear();
      return absl::OkStatus();
    }
    if (right_) text->resize(last);
    if (left_) text->erase(0, first);
    return absl::OkStatus();
  }

 private:
  bool left_, right_;
};

class ByteLevel : public Normalizer {
 public:
  absl::Status Apply(bool, std::string* text) const override {
    *text = ToByteAlphabet(*text);
    return absl::OkStatus();
  }
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}
  absl::Status Apply(bool at_start, std::string* text) const override {
    for (const auto& part : parts_) {
      if (absl::Status s = part->Apply(at_start, text); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<Normalizer> MakeUnicodeForm(NormalForm form) {
  return std::make_unique<UnicodeForm>(form);
}
std::unique_ptr<Normalizer> MakeLowercase() { return std::make_unique<CharMap>(Lower); }
std::unique_ptr<Normalizer> MakeStripAccents() { return std::make_unique<CharMap>(DropMarks); }
std::unique_ptr<Normalizer> MakeNmt() { return std::make_unique<CharMap>(Nmt); }
std::unique_ptr<Normalizer> MakePrepend(std::string prefix) {
  return std::make_unique<Prepend>(std::move(prefix));
}
std::unique_ptr<Normalizer> MakeReplace(Matcher pattern, std::string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
std::unique_ptr<Normalizer> MakeStrip(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}
std::unique_ptr<Normalizer> MakeByteLevelNormalizer() { return std::make_unique<ByteLevel>(); }
std::unique_ptr<Normalizer> MakeNormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

}  // namespace modu::text
