#include "server/api/json_text.h"

#include <charconv>

namespace modu::api {
namespace {

// Length of the valid UTF-8 sequence at `p`, or 0; then *bad is the length of the maximal
// ill-formed part.
size_t SequenceLength(const unsigned char* p, size_t left, size_t* bad) {
  const unsigned char lead = p[0];
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // bounds of the second byte (Unicode table 3-7)
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    *bad = 1;
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= left || p[i] < low || p[i] > high) {
      *bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

void AppendNumber(int64_t value, std::string* out) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof text, value);
  out->append(text, end.ptr);
}

void AppendIds(const std::vector<int32_t>& ids, std::string* out) {
  *out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i) *out += ',';
    AppendNumber(ids[i], out);
  }
  *out += ']';
}

void AppendJsonString(std::string_view text, std::string* out) {
  constexpr char kHex[] = "0123456789abcdef";
  out->reserve(out->size() + text.size() + 2);
  *out += '"';
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  size_t plain = 0;  // start of the run that needs no change
  size_t i = 0;
  const auto flush = [&] { out->append(text.data() + plain, i - plain); };
  while (i < text.size()) {
    const unsigned char c = p[i];
    if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      size_t bad = 0;
      const size_t length = SequenceLength(p + i, text.size() - i, &bad);
      if (length > 0) {
        i += length;
        continue;
      }
      flush();
      *out += "\xEF\xBF\xBD";
      i += bad;
      plain = i;
      continue;
    }
    flush();
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        *out += "\\u00";
        *out += kHex[c >> 4];
        *out += kHex[c & 15];
    }
    plain = ++i;
  }
  flush();
  *out += '"';
}

}  // namespace modu::api
