// Python's view of strings over UTF-8: code points, white space, case, character classes. Pure
// functions, any thread; bytes that are not UTF-8 count as one code point each, so that nothing
// reads past the end.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modu::text::jinja {

int64_t CountCodePoints(std::string_view text);
/// Bytes of the character that starts at `offset`, at least 1.
size_t CharBytes(std::string_view text, size_t offset);
char32_t DecodeChar(std::string_view text, size_t offset, size_t* bytes);
void AppendChar(char32_t c, std::string* out);
bool IsValidUtf8(std::string_view text);
/// Byte offset of the code point `index` (0 <= index <= length).
size_t OffsetOf(std::string_view text, int64_t index);

bool IsSpace(char32_t c);  // str.isspace
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);  // \p{Nd}
bool IsNumeric(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsPrintable(char32_t c);  // str.isprintable, which repr follows

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Title(std::string_view text);       // str.title
std::string Capitalize(std::string_view text);  // str.capitalize
std::string SwapCase(std::string_view text);

/// str.strip and its one-sided kinds; an empty `chars` with has_chars false means white space.
std::string_view Strip(std::string_view text, bool left, bool right, bool has_chars,
                       std::string_view chars);
/// str.splitlines.
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

}  // namespace modu::text::jinja
