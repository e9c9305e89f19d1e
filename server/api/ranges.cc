#include "server/api/ranges.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace modu::api {
namespace {

constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
constexpr double kInt32Min = std::numeric_limits<int32_t>::min();

NumericRange Integers(double low, double high) { return {true, low, high, false}; }
NumericRange Numbers(double low, double high) { return {false, low, high, false}; }

std::string Bound(double value, bool is_integer) {
  return is_integer ? absl::StrCat(static_cast<int64_t>(value)) : absl::StrCat(value);
}

}  // namespace

bool NumericRange::Holds(double value) const {
  return (above_low ? low < value : low <= value) && value <= high;
}

std::string NumericRange::Text() const {
  const std::string from = Bound(low, is_integer), to = Bound(high, is_integer);
  const char* noun = is_integer ? "an integer " : "a number ";
  if (above_low) return absl::StrCat(noun, "above ", from, " and at most ", to);
  return absl::StrCat(noun, "between ", from, " and ", to);
}

std::optional<NumericRange> RangeOf(std::string_view field, const Limits& limits) {
  if (field == "temperature") return Numbers(0, 2);
  if (field == "top_p") return NumericRange{false, 0, 1, true};
  if (field == "min_p") return Numbers(0, 1);
  if (field == "repetition_penalty") return Numbers(kMinRepetitionPenalty, kMaxRepetitionPenalty);
  if (field == "presence_penalty" || field == "frequency_penalty") return Numbers(-2, 2);
  if (field == "top_k") return Integers(-1, kInt32Max);
  if (field == "n") return Integers(1, limits.max_n);
  if (field == "priority") return Integers(kInt32Min, kInt32Max);
  // A completion's `logprobs` is a chat's `top_logprobs`.
  if (field == "top_logprobs" || field == "logprobs") return Integers(0, limits.max_top_logprobs);
  return std::nullopt;
}

ApiError OutsideRange(std::string_view field, const NumericRange& range) {
  return InvalidField(std::string(field), std::string(field) + " must be " + range.Text());
}

}  // namespace modu::api
