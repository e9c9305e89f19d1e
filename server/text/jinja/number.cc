#include "server/text/jinja/number.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

__extension__ typedef unsigned __int128 Unsigned;
constexpr Unsigned kIntMax = ~static_cast<Unsigned>(0) >> 1;

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

}  // namespace

bool AddOverflows(Int a, Int b, Int* out) { return __builtin_add_overflow(a, b, out); }
bool SubOverflows(Int a, Int b, Int* out) { return __builtin_sub_overflow(a, b, out); }
bool MulOverflows(Int a, Int b, Int* out) { return __builtin_mul_overflow(a, b, out); }

std::string IntToString(Int value, int base) {
  Unsigned rest = value < 0 ? ~static_cast<Unsigned>(value) + 1 : static_cast<Unsigned>(value);
  std::string digits;
  do {
    digits.push_back("0123456789abcdefghijklmnopqrstuvwxyz"[static_cast<int>(
        rest % static_cast<unsigned>(base))]);
    rest /= static_cast<unsigned>(base);
  } while (rest != 0);
  if (value < 0) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string FloatToString(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto written =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string text(buffer, written.ptr);
  std::string sign;
  if (text[0] == '-') {
    sign = "-";
    text.erase(0, 1);
  }
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  std::string digits = text.substr(0, e);
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    const int magnitude = std::abs(exponent);
    return out + (exponent < 0 ? "e-" : "e+") + (magnitude < 10 ? "0" : "") +
           std::to_string(magnitude);
  }
  if (exponent < 0)
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1)
    return sign + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.substr(0, static_cast<size_t>(exponent + 1)) + "." +
         digits.substr(static_cast<size_t>(exponent + 1));
}

std::optional<Int> ParseInt(std::string_view text, int base, bool* overflow) {
  *overflow = false;
  text = Strip(text, true, true, false, "");
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool prefixed = false;
  if (text.size() > 1 && text[0] == '0') {
    const char kind = static_cast<char>(text[1] | 0x20);
    const int implied = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (implied != 0 && (base == implied || base == 0)) {
      base = implied;
      text.remove_prefix(2);
      prefixed = true;
    }
  }
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos)
      return std::nullopt;
    base = 10;
  }
  if (text.empty() || base < 2 || base > 36) return std::nullopt;
  Unsigned value = 0;
  bool after_digit = prefixed;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      if (!after_digit || i + 1 == text.size()) return std::nullopt;
      after_digit = false;
      continue;
    }
    const int digit = DigitValue(text[i]);
    if (digit >= base) return std::nullopt;
    if (value > (kIntMax - static_cast<unsigned>(digit)) / static_cast<unsigned>(base)) {
      *overflow = true;
      value = 0;
    }
    value = value * static_cast<unsigned>(base) + static_cast<unsigned>(digit);
    after_digit = true;
  }
  const Int result = static_cast<Int>(value);
  return negative ? -result : result;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text, true, true, false, "");
  if (text.empty() || text.size() > 4096) return std::nullopt;
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool digit_before = i > 0 && text[i - 1] >= '0' && text[i - 1] <= '9';
    const bool digit_after = i + 1 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '9';
    if (text[i] == '_') {
      if (!digit_before || !digit_after) return std::nullopt;
      continue;
    }
    clean.push_back(text[i]);
  }
  bool negative = false;
  std::string_view body = clean;
  if (body[0] == '+' || body[0] == '-') {
    negative = body[0] == '-';
    body.remove_prefix(1);
  }
  const std::string lowered = Lower(body);
  double value = 0;
  if (lowered == "inf" || lowered == "infinity") {
    value = INFINITY;
  } else if (lowered == "nan") {
    value = NAN;
  } else {
    if (body.empty() || (body[0] != '.' && (body[0] < '0' || body[0] > '9'))) return std::nullopt;
    const auto read = std::from_chars(body.data(), body.data() + body.size(), value);
    if (read.ptr != body.data() + body.size()) return std::nullopt;
    if (read.ec == std::errc::result_out_of_range) {
      // from_chars leaves the value alone; strtod tells infinity from zero.
      value = std::strtod(std::string(body).c_str(), nullptr);
    } else if (read.ec != std::errc()) {
      return std::nullopt;
    }
  }
  return negative ? -value : value;
}

std::optional<Int> FloatToInt(double value) {
  if (!(std::fabs(value) < 1.7e38)) return std::nullopt;
  return static_cast<Int>(value);
}

}  // namespace modu::text::jinja
