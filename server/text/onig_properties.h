// The character sets that Oniguruma's expressions name (\w, \p{...}, [:...:]), in PCRE2's spelling.
// Each was compared with Oniguruma over all code points (Unicode 14; later characters follow
// PCRE2's tables).
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace modu::text {

/// What may stand between [ and ]; inverted: between [^ and ].
struct PropertySet {
  std::string items;
  bool inverted = false;

  void Invert() { inverted = !inverted; }
  std::string Expression() const { return (inverted ? "[^" : "[") + items + "]"; }
};

extern const char *const kOnigSpaces, *const kOnigNotSpaces;  // White_Space
extern const char* const kOnigWord;                           // \w in a class, [:word:], \p{Word}
extern const char* const
    kOnigWordOutside;  // \w and \b elsewhere: Latin-1's superscripts and fractions too

/// \p{name}, without a ^.
absl::StatusOr<PropertySet> OnigProperty(std::string_view name);
/// [:name:]; nullopt: none of the known.
std::optional<PropertySet> OnigBracket(std::string_view name);

}  // namespace modu::text
