// Internal to the filters' files: the shape of a filter and the tables that filters.cc joins.
#pragma once
#include <map>
#include <string_view>

#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

using Filter = Value (*)(Runtime&, const Value& input, const CallArguments&);
using FilterTable = std::map<std::string_view, Filter>;

const FilterTable& TextFilters();
const FilterTable& SequenceFilters();
const FilterTable& ValueFilters();

}  // namespace modu::text::jinja
