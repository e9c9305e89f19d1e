#include "server/text/onig_properties.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace modu::text {
namespace {

struct Name {
  std::string_view name;
  const char* items;
  bool inverted = false;
};

constexpr Name kBrackets[] = {
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"blank", "\\p{Zs}\\x{9}"},
    {"cntrl", "\\p{Cc}"},
    {"digit", "\\p{Nd}"},
    {"graph", "\\p{White_Space}\\p{Cc}\\p{Cn}\\p{Cs}", true},
    {"lower", "\\p{Lowercase}"},
    {"print", "\\p{Cc}\\p{Cn}\\p{Cs}\\p{Zl}\\p{Zp}", true},
    {"punct", "\\p{P}"},
    {"space", "\\p{White_Space}"},
    {"upper", "\\p{Uppercase}"},
    {"word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
    {"xdigit", "0-9a-fA-F"},
};

constexpr Name kCategories[] = {
    {"l", "L"},
    {"lu", "Lu"},
    {"ll", "Ll"},
    {"lt", "Lt"},
    {"lm", "Lm"},
    {"lo", "Lo"},
    {"lc", "L&"},
    {"m", "M"},
    {"mn", "Mn"},
    {"mc", "Mc"},
    {"me", "Me"},
    {"n", "N"},
    {"nd", "Nd"},
    {"nl", "Nl"},
    {"no", "No"},
    {"p", "P"},
    {"pc", "Pc"},
    {"pd", "Pd"},
    {"ps", "Ps"},
    {"pe", "Pe"},
    {"pi", "Pi"},
    {"pf", "Pf"},
    {"po", "Po"},
    {"s", "S"},
    {"sm", "Sm"},
    {"sc", "Sc"},
    {"sk", "Sk"},
    {"so", "So"},
    {"z", "Z"},
    {"zs", "Zs"},
    {"zl", "Zl"},
    {"zp", "Zp"},
    {"c", "C"},
    {"cc", "Cc"},
    {"cf", "Cf"},
    {"cn", "Cn"},
    {"co", "Co"},
    {"cs", "Cs"},
    {"any", "Any"},
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"casedletter", "L&"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"unassigned", "Cn"},
    {"privateuse", "Co"},
    {"surrogate", "Cs"},
};

/// Properties that are yes or no; any other name is a script's.
constexpr std::string_view kBinary[] = {
    "alphabetic",
    "asciihexdigit",
    "cased",
    "caseignorable",
    "dash",
    "defaultignorablecodepoint",
    "diacritic",
    "emoji",
    "emojicomponent",
    "emojimodifier",
    "emojimodifierbase",
    "emojipresentation",
    "extendedpictographic",
    "extender",
    "graphemebase",
    "graphemeextend",
    "hexdigit",
    "idcontinue",
    "ideographic",
    "idstart",
    "lowercase",
    "math",
    "quotationmark",
    "radical",
    "regionalindicator",
    "sentenceterminal",
    "softdotted",
    "terminalpunctuation",
    "unifiedideograph",
    "uppercase",
    "variationselector",
    "whitespace",
    "xidcontinue",
    "xidstart",
};

const Name* Find(const Name* begin, const Name* end, std::string_view name) {
  const Name* found = std::find_if(begin, end, [&](const Name& n) { return n.name == name; });
  return found == end ? nullptr : found;
}

}  // namespace

const char* const kOnigSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
const char* const kOnigNotSpaces =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-"
    "\\x{10ffff}";
const char* const kOnigWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
const char* const kOnigWordOutside =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

absl::StatusOr<PropertySet> OnigProperty(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
    if (!upper && !lower) {
      return absl::InvalidArgumentError("regex: a property's name is of letters");
    }
    folded += static_cast<char>(c | 32);
  }
  if (const Name* category = Find(std::begin(kCategories), std::end(kCategories), folded)) {
    return PropertySet{absl::StrCat("\\p{", category->items, "}")};
  }
  if (folded == "assigned") return PropertySet{"\\P{Cn}"};
  if (const auto bracket = OnigBracket(folded)) return *bracket;
  const bool binary = std::count(std::begin(kBinary), std::end(kBinary), folded) > 0;
  // sc: PCRE2's own \p{Han} is by Script_Extensions.
  return PropertySet{absl::StrCat("\\p{", binary ? "" : "sc:", folded, "}")};
}

std::optional<PropertySet> OnigBracket(std::string_view name) {
  const Name* found = Find(std::begin(kBrackets), std::end(kBrackets), name);
  if (found == nullptr) return std::nullopt;
  return PropertySet{std::string(found->items), found->inverted};
}

}  // namespace modu::text
