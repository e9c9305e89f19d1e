#include "server/text/unicode_normal.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "server/text/unicode.h"

namespace modu::text {
namespace {

constexpr uint32_t kTableSize = 0x40000;

int OptionsOf(NormalForm form) {
  int options = UTF8PROC_STABLE;
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  if (compat) options |= UTF8PROC_COMPAT;
  options |= compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  return options;
}

int CombiningClass(int32_t c) { return utf8proc_get_property(c)->combining_class; }

/// Appends the full decomposition of one code point, not yet ordered.
void Decompose(int32_t c, int options, std::vector<int32_t>* out) {
  std::array<utf8proc_int32_t, 32> buffer;  // the longest decomposition has 18
  int boundary = 0;
  const auto decompose =
      static_cast<utf8proc_option_t>((options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE);
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(c, buffer.data(), buffer.size(), decompose, &boundary);
  if (n <= 0 || n > static_cast<utf8proc_ssize_t>(buffer.size())) {
    out->push_back(c);
    return;
  }
  out->insert(out->end(), buffer.begin(), buffer.begin() + n);
}

/// Canonical ordering: each run of marks by class, those of one class in their order (a counting
/// sort).
void OrderMarks(std::vector<int32_t>* points) {
  std::vector<int32_t> sorted;
  std::array<uint32_t, 256> starts;
  for (size_t i = 0; i < points->size();) {
    if (CombiningClass((*points)[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    bool ordered = true;
    int last = 0;
    while (end < points->size()) {
      const int cls = CombiningClass((*points)[end]);
      if (cls == 0) break;
      ordered = ordered && last <= cls;
      last = cls;
      ++end;
    }
    if (!ordered) {
      starts.fill(0);
      for (size_t j = i; j < end; ++j) ++starts[CombiningClass((*points)[j])];
      uint32_t total = 0;
      for (uint32_t& start : starts) {
        const uint32_t count = start;
        start = total;
        total += count;
      }
      sorted.resize(end - i);
      for (size_t j = i; j < end; ++j) {
        sorted[starts[CombiningClass((*points)[j])]++] = (*points)[j];
      }
      std::copy(sorted.begin(), sorted.end(), points->begin() + static_cast<ptrdiff_t>(i));
    }
    i = end;
  }
}

void NormalizeRun(std::string_view text, int options, std::string* out) {
  std::vector<int32_t> points;
  points.reserve(text.size());
  ForEachChar(text, [&](uint32_t c, size_t, size_t) {
    Decompose(static_cast<int32_t>(c), options, &points);
  });
  OrderMarks(&points);
  auto n = static_cast<utf8proc_ssize_t>(points.size());
  if (options & UTF8PROC_COMPOSE) {
    n = utf8proc_normalize_utf32(points.data(), n, static_cast<utf8proc_option_t>(options));
  }
  for (utf8proc_ssize_t i = 0; i < n; ++i) AppendUtf8(static_cast<uint32_t>(points[i]), out);
}

/// A character that normalises to itself and neither composes with what stands before it nor moves.
bool ComputeStable(uint32_t c, int options) {
  if (c >= 0xAC00 && c <= 0xD7A3) return (options & UTF8PROC_COMPOSE) != 0;
  const bool jamo =
      (c >= 0x1100 && c <= 0x11FF) || (c >= 0xA960 && c <= 0xA97F) || (c >= 0xD7B0 && c <= 0xD7FF);
  // Kirat Rai and Gurung Khema vowels (Unicode 16) compose although some are letters.
  if (jamo || (c >= 0x16100 && c <= 0x1613F) || (c >= 0x16D40 && c <= 0x16D7F)) return false;
  if (FlagsOf(c) & kMark) return false;
  if (CombiningClass(static_cast<int32_t>(c)) != 0) return false;
  std::string self, normal;
  AppendUtf8(c, &self);
  NormalizeRun(self, options, &normal);
  return self == normal;
}

/// Characters that need no work, a bit each, made when a form is first used (a few milliseconds).
class StableSet {
 public:
  explicit StableSet(int options) : bits_(kTableSize) {
    for (uint32_t c = 0x80; c < kTableSize; ++c) {
      const bool surrogate = c >= 0xD800 && c < 0xE000;
      const bool ideograph = (c >= 0x3400 && c < 0x4DC0) || (c >= 0x4E00 && c < 0xA000) ||
                             (c >= 0x20000 && c < 0x2A6E0) || (c >= 0x30000);
      bits_[c] = !surrogate && (ideograph || ComputeStable(c, options));
    }
    for (uint32_t c = 0; c < 0x80; ++c) bits_[c] = true;
  }
  bool Has(uint32_t c) const { return c < kTableSize && bits_[c]; }

 private:
  std::vector<bool> bits_;
};

const StableSet& StableSetOf(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc: {
      static const StableSet set(OptionsOf(NormalForm::kNfc));
      return set;
    }
    case NormalForm::kNfd: {
      static const StableSet set(OptionsOf(NormalForm::kNfd));
      return set;
    }
    case NormalForm::kNfkc: {
      static const StableSet set(OptionsOf(NormalForm::kNfkc));
      return set;
    }
    case NormalForm::kNfkd:
      break;
  }
  static const StableSet set(OptionsOf(NormalForm::kNfkd));
  return set;
}

}  // namespace

std::string Normalized(std::string_view text, NormalForm form) {
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return std::string(text);
  const StableSet& stable = StableSetOf(form);
  const int options = OptionsOf(form);
  std::string out;
  out.reserve(text.size());
  // Stable characters are copied; one is held back, since it may be the base of what follows. A run
  // of others is normalised together with the base before it.
  size_t copied = 0, base = 0, pos = 0;
  while (pos < text.size()) {
    int length = 1;
    if (stable.Has(DecodeValid(text.data() + pos, &length))) {
      base = pos;
      pos += length;
      continue;
    }
    out.append(text.substr(copied, base - copied));
    while (pos < text.size() && !stable.Has(DecodeValid(text.data() + pos, &length))) pos += length;
    NormalizeRun(text.substr(base, pos - base), options, &out);
    copied = base = pos;
  }
  out.append(text.substr(copied));
  return out;
}

}  // namespace modu::text
