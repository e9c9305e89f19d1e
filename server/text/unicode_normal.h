// Unicode normalisation forms in linear time: utf8proc's tables, an ordering of our own (utf8proc's
// is quadratic in a run of combining marks). Input is well-formed UTF-8. Safe from any thread.
#pragma once
#include <string>
#include <string_view>

namespace modu::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

std::string Normalized(std::string_view text, NormalForm form);

}  // namespace modu::text
