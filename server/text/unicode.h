// Code points and their classes: strict UTF-8 decoding and a table of the general categories that
// tokenizers ask for. Classes come from utf8proc's tables, read once into a flat table; safe from
// any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace modu::text {

/// A half-open byte range.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

enum CharFlags : uint8_t {
  kLetter = 1,   // L*
  kMark = 2,     // M*
  kNumber = 4,   // N*, what Rust calls is_numeric
  kSpace = 8,    // White_Space, what Oniguruma and Rust call \s
  kUpper = 16,   // Lu, Lt
  kLower = 32,   // Ll
  kPunct = 64,   // P*
  kSymbol = 128  // S*
};

uint8_t FlagsOf(uint32_t code_point);
/// FlagsOf of the first kFlagTableSize code points, for inner loops.
inline constexpr uint32_t kFlagTableSize = 0x40000;
const uint8_t* FlagTable();
/// \w of Rust's regex crate: Alphabetic, M, Nd, Pc and the two joiners.
bool IsWord(uint32_t code_point);

/// Length of the well-formed sequence at `begin` (1 to 4), or 0; no surrogates, no overlong forms,
/// at most U+10FFFF.
int DecodeUtf8(const char* begin, const char* end, uint32_t* code_point);
/// For a sequence that is known to be well formed.
inline uint32_t DecodeValid(const char* p, int* length) {
  const auto* u = reinterpret_cast<const unsigned char*>(p);
  if (u[0] < 0x80) return *length = 1, u[0];
  if (u[0] < 0xE0) return *length = 2, (u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu);
  if (u[0] < 0xF0) {
    return *length = 3, (u[0] & 0x0Fu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu);
  }
  return *length = 4,
         (u[0] & 0x07u) << 18 | (u[1] & 0x3Fu) << 12 | (u[2] & 0x3Fu) << 6 | (u[3] & 0x3Fu);
}
void AppendUtf8(uint32_t code_point, std::string* out);
/// Bytes from the front that are well formed.
size_t ValidPrefix(std::string_view text);
/// How many bytes at the front of an ill-formed `text` one U+FFFD stands for (Unicode's "maximal
/// subpart"); 0 when the bytes are the beginning of a character that `text` ends in the middle of.
size_t MaximalSubpart(std::string_view text);
/// Ill-formed parts become U+FFFD, as Rust's from_utf8_lossy does.
std::string Utf8Lossy(std::string_view bytes);

/// Calls f(code_point, begin, end) for each character of well-formed text.
template <typename F>
void ForEachChar(std::string_view text, F&& f) {
  for (size_t i = 0; i < text.size();) {
    int length = 1;
    const uint32_t code_point = DecodeValid(text.data() + i, &length);
    f(code_point, i, i + length);
    i += length;
  }
}

}  // namespace modu::text
