// GPT-2's alphabet of 256 printable characters, one a byte, in which byte-level vocabularies are
// written.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace modu::text {

/// The character (as UTF-8) that stands for a byte.
const std::string& ByteCharacter(uint8_t byte);
/// Bytes as they are spelled in a vocabulary.
std::string ToByteAlphabet(std::string_view bytes);
/// The reverse; nullopt where a character is not of the alphabet.
std::optional<std::string> FromByteAlphabet(std::string_view spelling);
/// "<0x0A>" is 10; nullopt for what is not spelled so.
std::optional<uint8_t> ParseByteToken(std::string_view spelling);

}  // namespace modu::text
