// Methods of values, by name; the string ones apart. They change nothing but what loop.changed and
// cyclers remember.
#pragma once
#include <map>
#include <string_view>

#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

using Method = Value (*)(Runtime&, const Value& self, const CallArguments&);
using MethodTable = std::map<std::string_view, Method>;

const MethodTable& StringMethods();
Value CountMethod(Runtime& rt, const Value& self, const CallArguments& arguments);  // of lists too
Value IndexMethod(Runtime& rt, const Value& self, const CallArguments& arguments);
Value ModMethod(Runtime& rt, const Value& self, const CallArguments& arguments);  // "%"

}  // namespace modu::text::jinja
