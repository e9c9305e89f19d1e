#include "server/text/byte_alphabet.h"

#include <array>

#include "server/text/unicode.h"

namespace modu::text {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, 512> bytes;  // by code point; -1: none

  Alphabet() {
    bytes.fill(-1);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      const uint32_t code_point = printable ? b : next++;
      AppendUtf8(code_point, &characters[b]);
      bytes[code_point] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

const std::string& ByteCharacter(uint8_t byte) { return TheAlphabet().characters[byte]; }

std::string ToByteAlphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += ByteCharacter(static_cast<uint8_t>(c));
  return out;
}

std::optional<std::string> FromByteAlphabet(std::string_view spelling) {
  const Alphabet& alphabet = TheAlphabet();
  std::string out;
  out.reserve(spelling.size());
  const char* p = spelling.data();
  const char* const end = p + spelling.size();
  while (p < end) {
    uint32_t code_point = 0;
    const int length = DecodeUtf8(p, end, &code_point);
    if (length == 0 || code_point >= 512 || alphabet.bytes[code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(alphabet.bytes[code_point]));
    p += length;
  }
  return out;
}

std::optional<uint8_t> ParseByteToken(std::string_view s) {
  if (s.size() != 6 || s.substr(0, 3) != "<0x" || s[5] != '>') return std::nullopt;
  const int high = HexDigit(s[3]), low = HexDigit(s[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

}  // namespace modu::text
