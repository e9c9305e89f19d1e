#include "server/text/unicode.h"

#include <utf8proc.h>

#include <vector>

namespace modu::text {
namespace {

bool IsWhiteSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

uint8_t Classify(uint32_t c) {
  uint8_t flags = IsWhiteSpace(c) ? kSpace : 0;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return flags | kLetter | kUpper;
    case UTF8PROC_CATEGORY_LL:
      return flags | kLetter | kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return flags | kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return flags | kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return flags | kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return flags | kPunct;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return flags | kSymbol;
    default:
      return flags;
  }
}

std::vector<uint8_t> BuildTable() {
  std::vector<uint8_t> table(kFlagTableSize);
  for (uint32_t c = 0; c < kFlagTableSize; ++c) table[c] = Classify(c);
  return table;
}

}  // namespace

// Planes 4 to 13 hold nothing, 14 tags and variation selectors, 15 and 16 private use: outside the
// table.
const uint8_t* FlagTable() {
  static const std::vector<uint8_t> table = BuildTable();
  return table.data();
}

uint8_t FlagsOf(uint32_t code_point) {
  static const uint8_t* const table = FlagTable();
  return code_point < kFlagTableSize ? table[code_point] : Classify(code_point);
}

bool IsWord(uint32_t c) {
  const uint8_t flags = FlagsOf(c);
  if (flags & (kLetter | kMark)) return true;
  if (flags & kNumber) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c)) != UTF8PROC_CATEGORY_NO;
  }
  if (flags & kPunct) {
    return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_PC;
  }
  return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
         (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

int DecodeUtf8(const char* begin, const char* end, uint32_t* code_point) {
  if (begin == end) return 0;
  const auto* u = reinterpret_cast<const unsigned char*>(begin);
  const size_t left = static_cast<size_t>(end - begin);
  if (u[0] < 0x80) {
    *code_point = u[0];
    return 1;
  }
  int length = 0;
  if (u[0] >= 0xC2 && u[0] < 0xE0) length = 2;
  if (u[0] >= 0xE0 && u[0] < 0xF0) length = 3;
  if (u[0] >= 0xF0 && u[0] < 0xF5) length = 4;
  if (length == 0 || left < static_cast<size_t>(length)) return 0;
  for (int i = 1; i < length; ++i) {
    if ((u[i] & 0xC0) != 0x80) return 0;
  }
  int decoded = 0;
  const uint32_t c = DecodeValid(begin, &decoded);
  if (length == 3 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) return 0;
  if (length == 4 && (c < 0x10000 || c > 0x10FFFF)) return 0;
  *code_point = c;
  return length;
}

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

size_t ValidPrefix(std::string_view text) {
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    if (static_cast<unsigned char>(*p) < 0x80) {
      ++p;
      continue;
    }
    uint32_t code_point = 0;
    const int length = DecodeUtf8(p, end, &code_point);
    if (length == 0) break;
    p += length;
  }
  return static_cast<size_t>(p - text.data());
}

size_t MaximalSubpart(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  size_t length = 0;
  // Unicode table 3-7: the second byte's range depends on the first.
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead < 0xE0) length = 2;
  if (lead >= 0xE0 && lead < 0xF0) length = 3;
  if (lead >= 0xF0 && lead < 0xF5) length = 4;
  if (length == 0) return 1;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return 0;
    if (byte(i) < low || byte(i) > high) return i;
    low = 0x80;
    high = 0xBF;
  }
  return 1;  // well formed: not what this is for
}

std::string Utf8Lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t valid = ValidPrefix(bytes);
    out.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    const size_t bad = MaximalSubpart(bytes);
    out += "\xEF\xBF\xBD";
    bytes.remove_prefix(bad == 0 ? bytes.size() : bad);
  }
  return out;
}

}  // namespace modu::text
