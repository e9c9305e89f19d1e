// The numeric fields whose range depends on the limits alone, and the one sentence that refuses
// them: a wrong type and a value out of range are told the same. Closed intervals but for top_p.
// Pure functions.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "server/api/error.h"
#include "server/api/limits.h"

namespace modu::api {

struct NumericRange {
  bool is_integer = false;
  double low = 0, high = 0;
  bool above_low = false;  // low itself is refused

  bool Holds(double value) const;  // false for NaN
  /// "an integer between 1 and 128".
  std::string Text() const;
};

/// Of a field of both doors by its name; nothing for one without a range of its own.
std::optional<NumericRange> RangeOf(std::string_view field, const Limits& limits);

/// Above 0 alone would let 1e-40 through, whose inverse is no longer finite.
inline constexpr double kMinRepetitionPenalty = 0.01, kMaxRepetitionPenalty = 100;

/// 400: "FIELD must be RANGE".
ApiError OutsideRange(std::string_view field, const NumericRange& range);

}  // namespace modu::api
