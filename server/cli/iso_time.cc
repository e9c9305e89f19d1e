#include "server/cli/iso_time.h"

#include <chrono>

#include "absl/strings/str_cat.h"

namespace modu::cli {
namespace {

// 0 stands for any digit, + for either sign.
constexpr const char* kForms[] = {"0000-00-00", "0000-00-00T00:00:00", "0000-00-00T00:00:00Z",
                                  "0000-00-00T00:00:00+00:00"};

bool HasForm(const std::string& text, const std::string& form) {
  if (text.size() != form.size()) return false;
  for (size_t i = 0; i < form.size(); ++i) {
    const char c = text[i];
    const bool fits = form[i] == '0'   ? '0' <= c && c <= '9'
                      : form[i] == '+' ? c == '+' || c == '-'
                                       : c == form[i];
    if (!fits) return false;
  }
  return true;
}

bool HasSomeForm(const std::string& text) {
  for (const char* form : kForms) {
    if (HasForm(text, form)) return true;
  }
  return false;
}

absl::Status NoSuch(const char* what, const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat(text, ": there is no such ", what));
}

}  // namespace

absl::StatusOr<int64_t> ParseIsoTime(const std::string& text) {
  if (!HasSomeForm(text)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is neither YYYY-MM-DD nor YYYY-MM-DDTHH:MM:SS, with Z or +HH:MM or -HH:MM",
        " behind it (without: UTC)"));
  }
  const auto number = [&](size_t place, size_t digits) {
    return std::stoi(text.substr(place, digits));
  };
  const std::chrono::year_month_day day{std::chrono::year(number(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  if (!day.ok()) return NoSuch("day", text);
  const int64_t midnight =
      std::chrono::sys_seconds(std::chrono::sys_days(day)).time_since_epoch().count();
  if (text.size() == 10) return midnight;
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (hour > 23 || minute > 59 || second > 59) return NoSuch("time of day", text);
  const int64_t local = midnight + hour * 3600 + minute * 60 + second;
  if (text.size() < 25) return local;
  const int offset_hours = number(20, 2), offset_minutes = number(23, 2);
  if (offset_hours > 23 || offset_minutes > 59) return NoSuch("offset from UTC", text);
  const int offset = offset_hours * 3600 + offset_minutes * 60;
  return text[19] == '+' ? local - offset : local + offset;
}

}  // namespace modu::cli
