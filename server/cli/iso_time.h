// A moment as a person types it. Pure function.
#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace modu::cli {

/// Seconds since 1970 in UTC of an ISO 8601 date, or date and time of day with Z or an offset from
/// UTC (+09:00); without either UTC is meant. kInvalidArgument says whether the form is another or
/// there is no such day, time or offset.
absl::StatusOr<int64_t> ParseIsoTime(const std::string& text);

}  // namespace modu::cli
