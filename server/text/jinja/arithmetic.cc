// Numbers under Python's operators: ints stay ints, / gives floats, // and % floor, overflow of 127
// bits is an error.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/text/jinja/number.h"
#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {
namespace {

Int FloorDivide(Int a, Int b) {
  const Int quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

double FloatModulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) rest += b;
  } else {
    rest = std::copysign(0.0, b);
  }
  return rest;
}

double FloatFloorDivide(double a, double b) {
  const double rest = FloatModulo(a, b);
  const double quotient = (a - rest) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

bool IsMinusOneOfMin(Int a, Int b) {  // the one division that overflows
  __extension__ typedef unsigned __int128 Unsigned;
  return b == -1 && a == static_cast<Int>(static_cast<Unsigned>(1) << 127);
}

}  // namespace

Value Runtime::Power(const Value& a, const Value& b) {
  if (a.integral() && b.integral() && b.as_int() >= 0) {
    Int result = 1, base = a.as_int(), exponent = b.as_int();
    while (exponent > 0) {
      if ((exponent & 1) != 0 && MulOverflows(result, base, &result))
        return Fail("an integer is too large");
      exponent >>= 1;
      if (exponent > 0 && MulOverflows(base, base, &base)) return Fail("an integer is too large");
    }
    return Value::Integer(result);
  }
  const double x = a.as_double(), y = b.as_double();
  if (x == 0 && y < 0) return Fail("0 cannot be raised to a negative power");
  if (x < 0 && std::floor(y) != y) return Fail("a negative number to a broken power is complex");
  const double result = std::pow(x, y);
  if (std::isinf(result) && std::isfinite(x) && std::isfinite(y))
    return Fail("a number is too large");
  return Value::Float(result);
}

Value Runtime::Arithmetic(std::string_view op, const Value& a, const Value& b) {
  if (op == "**") return Power(a, b);
  if (op == "/" || op == "//" || op == "%") {
    if (b.as_double() == 0) return Fail("division by zero");
  }
  if (a.integral() && b.integral()) {
    const Int x = a.as_int(), y = b.as_int();
    Int out = 0;
    if (op == "/") return Value::Float(static_cast<double>(x) / static_cast<double>(y));
    bool overflow = false;
    if (op == "+") {
      overflow = AddOverflows(x, y, &out);
    } else if (op == "-") {
      overflow = SubOverflows(x, y, &out);
    } else if (op == "*") {
      overflow = MulOverflows(x, y, &out);
    } else if (IsMinusOneOfMin(x, y)) {
      overflow = true;
    } else {
      out = op == "//" ? FloorDivide(x, y) : x - FloorDivide(x, y) * y;
    }
    return overflow ? Fail("an integer is too large") : Value::Integer(out);
  }
  const double x = a.as_double(), y = b.as_double();
  if (op == "+") return Value::Float(x + y);
  if (op == "-") return Value::Float(x - y);
  if (op == "*") return Value::Float(x * y);
  if (op == "/") return Value::Float(x / y);
  if (op == "//") return Value::Float(FloatFloorDivide(x, y));
  return Value::Float(FloatModulo(x, y));
}

}  // namespace modu::text::jinja
