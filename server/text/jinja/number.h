// Numbers as Python writes and reads them. Pure functions, any thread.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "server/text/jinja/value.h"

namespace modu::text::jinja {

std::string IntToString(Int value, int base = 10);
/// repr(float): the shortest digits that read back, fixed between 1e-4 and 1e16.
std::string FloatToString(double value);
/// int(text, base) without underscores at odd places; nullopt: not a number; sets *overflow past
/// 127 bits.
std::optional<Int> ParseInt(std::string_view text, int base, bool* overflow);
/// float(text).
std::optional<double> ParseFloat(std::string_view text);
/// int(f); nullopt for NaN, infinities and what does not fit.
std::optional<Int> FloatToInt(double value);

bool AddOverflows(Int a, Int b, Int* out);
bool SubOverflows(Int a, Int b, Int* out);
bool MulOverflows(Int a, Int b, Int* out);

}  // namespace modu::text::jinja
