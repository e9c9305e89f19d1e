#include "server/text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>

namespace modu::text::jinja {
namespace {

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || Category(c) == UTF8PROC_CATEGORY_LT; }

/// Word_Break=MidLetter and the like, and marks: letters that a final sigma looks through
/// (Unicode 3.13, D136).
bool IsCaseIgnorable(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return c == U'\'' || c == U'.' || c == U':' || c == 0xB7 || c == 0x2018 || c == 0x2019 ||
             c == 0x2024 || c == 0x2027;
  }
}

/// The few characters whose upper case is more than one character (SpecialCasing.txt, the common
/// ones).
const char* SpecialUpper(char32_t c) {
  switch (c) {
    case 0xDF:
      return "SS";
    case 0x149:
      return "\xCA\xBCN";
    case 0x1F0:
      return "J\xCC\x8C";
    case 0xFB00:
      return "FF";
    case 0xFB01:
      return "FI";
    case 0xFB02:
      return "FL";
    case 0xFB03:
      return "FFI";
    case 0xFB04:
      return "FFL";
    case 0xFB05:
      return "ST";
    case 0xFB06:
      return "ST";
    default:
      return nullptr;
  }
}

const char* SpecialTitle(char32_t c) {
  switch (c) {
    case 0xDF:
      return "Ss";
    case 0xFB00:
      return "Ff";
    case 0xFB01:
      return "Fi";
    case 0xFB02:
      return "Fl";
    case 0xFB03:
      return "Ffi";
    case 0xFB04:
      return "Ffl";
    case 0xFB05:
      return "St";
    case 0xFB06:
      return "St";
    default:
      return SpecialUpper(c);
  }
}

void AppendUpper(char32_t c, std::string* out) {
  if (const char* special = SpecialUpper(c)) {
    out->append(special);
  } else {
    AppendChar(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void AppendTitle(char32_t c, std::string* out) {
  if (const char* special = SpecialTitle(c)) {
    out->append(special);
  } else {
    AppendChar(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
  }
}

/// `before` tells whether a cased character precedes (looking through ignorable ones).
void AppendLower(std::string_view text, size_t offset, size_t bytes, char32_t c, bool before,
                 std::string* out) {
  if (c == 0x130) {
    out->append("i\xCC\x87");
    return;
  }
  if (c == 0x3A3 && before) {  // final sigma
    size_t at = offset + bytes;
    bool after = false;
    while (at < text.size()) {
      size_t n = 0;
      const char32_t next = DecodeChar(text, at, &n);
      if (!IsCaseIgnorable(next)) {
        after = IsCased(next);
        break;
      }
      if (at - offset > 64) break;  // keeps the whole linear; no word has so many marks
      at += n;
    }
    AppendChar(after ? 0x3C3 : 0x3C2, out);
    return;
  }
  AppendChar(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

template <typename F>
void ForEach(std::string_view text, F f) {
  for (size_t i = 0; i < text.size();) {
    size_t bytes = 0;
    const char32_t c = DecodeChar(text, i, &bytes);
    f(c, i, bytes);
    i += bytes;
  }
}

}  // namespace

int64_t CountCodePoints(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  if (count == static_cast<int64_t>(text.size()) || IsValidUtf8(text)) return count;
  count = 0;
  ForEach(text, [&](char32_t, size_t, size_t) { ++count; });
  return count;
}

char32_t DecodeChar(std::string_view text, size_t offset, size_t* bytes) {
  const auto lead = static_cast<unsigned char>(text[offset]);
  *bytes = 1;
  if (lead < 0x80) return lead;
  utf8proc_int32_t c = -1;
  const utf8proc_ssize_t n = utf8proc_iterate(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset,
      static_cast<utf8proc_ssize_t>(std::min<size_t>(4, text.size() - offset)), &c);
  if (n <= 0) return 0xFFFD;
  *bytes = static_cast<size_t>(n);
  return static_cast<char32_t>(c);
}

size_t CharBytes(std::string_view text, size_t offset) {
  size_t bytes = 1;
  DecodeChar(text, offset, &bytes);
  return bytes;
}

void AppendChar(char32_t c, std::string* out) {
  utf8proc_uint8_t buffer[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), buffer);
  out->append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(n > 0 ? n : 0));
}

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    utf8proc_int32_t c = -1;
    const utf8proc_ssize_t n =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + i,
                         static_cast<utf8proc_ssize_t>(std::min<size_t>(4, text.size() - i)), &c);
    if (n <= 0) return false;
    i += static_cast<size_t>(n);
  }
  return true;
}

size_t OffsetOf(std::string_view text, int64_t index) {
  size_t offset = 0;
  for (; index > 0 && offset < text.size(); --index) offset += CharBytes(text, offset);
  return offset;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  if (c == 0x85 || c == 0xA0) return true;
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool IsAlpha(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool IsDecimal(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }

bool IsNumeric(char32_t c) {
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool IsUpper(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
bool IsLower(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA; }

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string Upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  ForEach(text, [&](char32_t c, size_t, size_t) { AppendUpper(c, &out); });
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool before = false;
  ForEach(text, [&](char32_t c, size_t at, size_t n) {
    AppendLower(text, at, n, c, before, &out);
    if (!IsCaseIgnorable(c)) before = IsCased(c);
  });
  return out;
}

std::string Title(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool inside = false;
  ForEach(text, [&](char32_t c, size_t at, size_t n) {
    if (inside) {
      AppendLower(text, at, n, c, true, &out);
    } else {
      AppendTitle(c, &out);
    }
    inside = IsCased(c);
  });
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool before = false;
  ForEach(text, [&](char32_t c, size_t at, size_t n) {
    if (at == 0) {
      AppendTitle(c, &out);
    } else {
      AppendLower(text, at, n, c, before, &out);
    }
    if (!IsCaseIgnorable(c)) before = IsCased(c);
  });
  return out;
}

std::string SwapCase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool before = false;
  ForEach(text, [&](char32_t c, size_t at, size_t n) {
    if (IsUpper(c)) {
      AppendLower(text, at, n, c, before, &out);
    } else if (IsLower(c)) {
      AppendUpper(c, &out);
    } else {
      out.append(text.substr(at, n));
    }
    if (!IsCaseIgnorable(c)) before = IsCased(c);
  });
  return out;
}

std::string_view Strip(std::string_view text, bool left, bool right, bool has_chars,
                       std::string_view chars) {
  const auto strips = [&](size_t at, size_t bytes) {
    if (!has_chars) {
      size_t n = 0;
      return IsSpace(DecodeChar(text, at, &n));
    }
    const std::string_view one = text.substr(at, bytes);
    for (size_t i = 0; i < chars.size();) {
      const size_t n = CharBytes(chars, i);
      if (chars.substr(i, n) == one) return true;
      i += n;
    }
    return false;
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    const size_t n = CharBytes(text, begin);
    if (!strips(begin, n)) break;
    begin += n;
  }
  while (right && end > begin) {
    size_t at = end - 1;
    while (at > begin && end - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80)
      --at;
    if (CharBytes(text, at) != end - at) at = end - 1;  // not UTF-8: one byte
    if (!strips(at, end - at)) break;
    end = at;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    size_t n = 0;
    const char32_t c = DecodeChar(text, i, &n);
    const bool breaks =
        (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) {
      i += n;
      continue;
    }
    size_t next = i + n;
    if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
    lines.push_back(text.substr(start, (keep_ends ? next : i) - start));
    start = i = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

}  // namespace modu::text::jinja
