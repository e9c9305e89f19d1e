// Filters over lists and dicts: choosing, ordering, grouping.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/jinja/filter_table.h"
#include "server/text/jinja/unicode.h"

namespace modu::text::jinja {
namespace {

/// map, select and their kin take anything false for an empty list.
std::vector<Value> IterateTruthy(Runtime& rt, const Value& input) {
  if (!input.undefined() && !rt.Truthy(input)) return {};
  return rt.Iterate(input);
}

Value IgnoreCase(Runtime& rt, const Value& value) {
  if (!value.string()) return value;
  rt.ChargeBytes(static_cast<int64_t>(value.text().size()) * 32);
  return Value::String(Lower(value.text()));
}

/// The value that an item is ordered or told apart by.
Value KeyOf(Runtime& rt, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = attribute == nullptr || attribute->none() ? item : rt.GetPath(item, *attribute);
  return case_sensitive ? key : IgnoreCase(rt, key);
}

/// Stable; `reverse` keeps equal items in their order, as Python's sorted does.
std::vector<Value> SortBy(Runtime& rt, const std::vector<Value>& items,
                          const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (rt.failed()) return false;
    return reverse ? rt.Less(keys[b], keys[a]) : rt.Less(keys[a], keys[b]);
  });
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(items[i]);
  return sorted;
}

Value Sort(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "sort", arguments, "reverse,case_sensitive,attribute");
  if (!args.ok()) return Value();
  const std::vector<Value> items = rt.Iterate(input);
  const bool case_sensitive = args.Bool(1, false);
  std::vector<Value> keys;
  for (const Value& item : items) {
    if (args[2] != nullptr && args[2]->string()) {  // "a,b": by several attributes
      std::vector<Value> parts;
      for (const auto& part : absl::StrSplit(args[2]->text(), ',')) {
        const Value path = Value::String(std::string(part));
        parts.push_back(KeyOf(rt, item, &path, case_sensitive));
      }
      keys.push_back(parts.size() == 1 ? parts[0] : Value::Tuple(std::move(parts)));
    } else {
      keys.push_back(KeyOf(rt, item, args[2], case_sensitive));
    }
    if (rt.failed()) return Value();
  }
  return rt.NewSequence(SortBy(rt, items, keys, args.Bool(0, false)), Flavor::kList);
}

Value DictSort(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "dictsort", arguments, "case_sensitive,by,reverse");
  if (!args.ok()) return Value();
  if (input.undefined()) return rt.FailUndefined(input);
  if (!input.dict())
    return rt.Fail(absl::StrCat("dictsort: expected a dict, got ", rt.TypeName(input)));
  const std::string by = args.Text(1, "key");
  if (by != "key" && by != "value") return rt.Fail("dictsort: sort by 'key' or 'value'");
  std::vector<Value> items, keys;
  for (const auto& [key, value] : input.map().items) {
    items.push_back(Value::Tuple({key, value}));
    const Value& chosen = by == "key" ? key : value;
    keys.push_back(args.Bool(0, false) ? chosen : IgnoreCase(rt, chosen));
  }
  return rt.NewSequence(SortBy(rt, items, keys, args.Bool(2, false)), Flavor::kList);
}

Value Unique(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "unique", arguments, "case_sensitive,attribute");
  if (!args.ok()) return Value();
  std::vector<Value> seen, items;
  for (const Value& item : rt.Iterate(input)) {
    Value key = KeyOf(rt, item, args[1], args.Bool(0, false));
    if (key.dict() || (key.sequence() && key.seq().flavor == Flavor::kList)) {
      return rt.Fail(absl::StrCat("unique: a ", rt.TypeName(key), " cannot be told apart"));
    }
    bool known = false;
    for (size_t i = 0; i < seen.size() && !known && !rt.failed(); ++i)
      known = rt.Equal(seen[i], key);
    if (rt.failed()) return Value();
    if (known) continue;
    seen.push_back(std::move(key));
    items.push_back(item);
  }
  return rt.NewSequence(std::move(items), Flavor::kGenerator);
}

template <bool kMax>
Value Extreme(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, kMax ? "max" : "min", arguments, "case_sensitive,attribute");
  if (!args.ok()) return Value();
  const std::vector<Value> items = rt.Iterate(input);
  if (items.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = KeyOf(rt, items[0], args[1], args.Bool(0, false));
  for (size_t i = 1; i < items.size() && !rt.failed(); ++i) {
    Value key = KeyOf(rt, items[i], args[1], args.Bool(0, false));
    if (kMax ? rt.Less(best_key, key) : rt.Less(key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value First(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "first", arguments, "");
  if (input.sequence() && input.seq().flavor == Flavor::kGenerator) {
    const SequenceObject& seq = input.seq();
    if (seq.consumed < seq.items.size()) return seq.items[seq.consumed++];
  } else if (input.sequence() || input.string()) {
    if (rt.Length(input) > 0) {
      if (input.sequence()) return input.seq().items.front();
      return rt.GetItem(input, Value::Integer(0));
    }
  } else {
    const std::vector<Value> items = rt.Iterate(input);
    if (!items.empty()) return items.front();
  }
  return Value::Undefined("No first item, sequence was empty.");
}

Value Last(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "last", arguments, "");
  if (input.undefined()) return Value::Undefined("No last item, sequence was empty.");
  if (input.sequence() && input.seq().flavor == Flavor::kGenerator)
    return rt.Fail("last: a generator has no end");
  if (input.string())
    return rt.Length(input) > 0 ? rt.GetItem(input, Value::Integer(-1))
                                : Value::Undefined("No last item, sequence was empty.");
  const std::vector<Value> items = rt.Iterate(input);
  return items.empty() ? Value::Undefined("No last item, sequence was empty.") : items.back();
}

Value Join(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "join", arguments, "d,attribute");
  if (!args.ok()) return Value();
  const std::string separator = args[0] == nullptr ? "" : rt.Str(*args[0]);
  std::string out;
  bool first = true;
  for (const Value& item : rt.Iterate(input)) {
    if (!first) out += separator;
    first = false;
    out += rt.Str(args[1] == nullptr || args[1]->none() ? item : rt.GetPath(item, *args[1]));
    if (!rt.Charge(1) || static_cast<int64_t>(out.size()) > rt.budget().max_output_bytes) break;
  }
  return rt.NewString(std::move(out));
}

Value List(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "list", arguments, "");
  return rt.NewSequence(rt.Iterate(input), Flavor::kList);
}

Value Reverse(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "reverse", arguments, "");
  if (input.string()) return rt.Slice(input, Value::None(), Value::None(), Value::Integer(-1));
  std::vector<Value> items = rt.Iterate(input);
  std::reverse(items.begin(), items.end());
  return rt.NewSequence(std::move(items), Flavor::kGenerator);
}

Value Items(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "items", arguments, "");
  if (input.undefined()) return rt.NewSequence({}, Flavor::kGenerator);
  if (!input.dict()) return rt.Fail("items: can only get item pairs from a mapping");
  const Value view = rt.CallMethod(input, "items", {});
  return rt.failed() ? Value() : rt.NewSequence(view.seq().items, Flavor::kGenerator);
}

/// The rest of the positional arguments, and all named ones.
CallArguments Rest(const CallArguments& arguments, size_t from) {
  CallArguments rest;
  if (arguments.positional.size() > from) {
    rest.positional.assign(arguments.positional.begin() + static_cast<int64_t>(from),
                           arguments.positional.end());
  }
  rest.named = arguments.named;
  return rest;
}

Value Map(Runtime& rt, const Value& input, const CallArguments& arguments) {
  std::vector<Value> items;
  if (arguments.positional.empty() && !arguments.named.empty()) {
    Bound args(&rt, "map", arguments, "attribute,default", 1);
    if (!args.ok()) return Value();
    // GetPath with a default at every step, as jinja2's attribute getter has it.
    const bool has_default = args[1] != nullptr && !args[1]->none();
    for (const Value& item : IterateTruthy(rt, input)) {
      Value value = item;
      if (has_default && args[0]->string()) {
        for (const auto& part : absl::StrSplit(args[0]->text(), '.')) {
          value = rt.GetPath(value, Value::String(std::string(part)));
          if (value.undefined()) value = *args[1];
        }
      } else {
        value = rt.GetPath(item, *args[0]);
      }
      items.push_back(std::move(value));
      if (!rt.Charge(1)) return Value();
    }
    return rt.NewSequence(std::move(items), Flavor::kGenerator);
  }
  if (arguments.positional.empty() || !arguments.positional[0].string()) {
    return rt.Fail("map needs the name of a filter, or attribute=");
  }
  const std::string name = arguments.positional[0].text();
  const CallArguments rest = Rest(arguments, 1);
  for (const Value& item : IterateTruthy(rt, input)) {
    items.push_back(rt.CallFilter(name, item, rest));
    if (rt.failed()) return Value();
  }
  return rt.NewSequence(std::move(items), Flavor::kGenerator);
}

template <bool kKeep, bool kByAttribute>
Value Choose(Runtime& rt, const Value& input, const CallArguments& arguments) {
  constexpr size_t kOffset = kByAttribute ? 1 : 0;
  if (arguments.positional.size() < kOffset)
    return rt.Fail("selectattr/rejectattr needs the name of an attribute");
  const bool has_test = arguments.positional.size() > kOffset;
  if (has_test && !arguments.positional[kOffset].string())
    return rt.Fail("select/reject: a test is named by a string");
  const std::string test = has_test ? arguments.positional[kOffset].text() : "";
  const CallArguments rest = Rest(arguments, kOffset + 1);
  std::vector<Value> items;
  for (const Value& item : IterateTruthy(rt, input)) {
    const Value value = kByAttribute ? rt.GetPath(item, arguments.positional[0]) : item;
    const bool passes = has_test ? rt.CallTest(test, value, rest) : rt.Truthy(value);
    if (!rt.Charge(1)) return Value();
    if (passes == kKeep) items.push_back(item);
  }
  return rt.NewSequence(std::move(items), Flavor::kGenerator);
}

Value Batch(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "batch", arguments, "linecount,fill_with", 1);
  const Int count = args.ok() ? args.Integer(0, 1) : 1;
  if (!args.ok()) return Value();
  if (count < 1) return rt.Fail("batch: the count must be positive");
  std::vector<Value> rows, row;
  for (const Value& item : rt.Iterate(input)) {
    if (static_cast<Int>(row.size()) == count)
      rows.push_back(rt.NewSequence(std::exchange(row, {}), Flavor::kList));
    row.push_back(item);
  }
  if (!row.empty()) {
    const bool fills = args[1] != nullptr && !args[1]->none();
    while (fills && static_cast<Int>(row.size()) < count && rt.Charge(1)) row.push_back(*args[1]);
    rows.push_back(rt.NewSequence(std::move(row), Flavor::kList));
  }
  return rt.NewSequence(std::move(rows), Flavor::kGenerator);
}

Value SliceFilter(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "slice", arguments, "slices,fill_with", 1);
  const Int slices = args.ok() ? args.Integer(0, 1) : 1;
  if (!args.ok()) return Value();
  if (slices < 1 || slices > 100'000) return rt.Fail("slice: the count must be from 1 to 100000");
  const std::vector<Value> items = rt.Iterate(input);
  const size_t count = static_cast<size_t>(slices), each = items.size() / count,
               extra = items.size() % count;
  std::vector<Value> rows;
  size_t at = 0;
  for (size_t i = 0; i < count && !rt.failed(); ++i) {
    const size_t size = each + (i < extra ? 1 : 0);
    std::vector<Value> row(items.begin() + static_cast<int64_t>(at),
                           items.begin() + static_cast<int64_t>(at + size));
    at += size;
    if (args[1] != nullptr && !args[1]->none() && i >= extra) row.push_back(*args[1]);
    rows.push_back(rt.NewSequence(std::move(row), Flavor::kList));
  }
  return rt.NewSequence(std::move(rows), Flavor::kGenerator);
}

Value GroupBy(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "groupby", arguments, "attribute,default,case_sensitive", 1);
  if (!args.ok()) return Value();
  const bool case_sensitive = args.Bool(2, false);
  const bool has_default = args[1] != nullptr && !args[1]->none();
  const auto attribute = [&](const Value& item) {
    const Value value = rt.GetPath(item, *args[0]);
    return has_default && value.undefined() ? *args[1] : value;
  };
  std::vector<Value> items = rt.Iterate(input), keys;
  std::vector<Value> pairs;
  for (const Value& item : items) {
    const Value key = attribute(item);
    keys.push_back(case_sensitive ? key : IgnoreCase(rt, key));
    pairs.push_back(Value::Tuple({keys.back(), item}));
    if (rt.failed()) return Value();
  }
  std::vector<Value> groups;
  std::vector<Value> group;
  std::optional<Value> group_key;
  const auto flush = [&] {
    if (!group_key) return;
    const Value shown = case_sensitive ? *group_key : attribute(group[0]);
    groups.push_back(
        Value::Tuple({shown, rt.NewSequence(std::exchange(group, {}), Flavor::kList)}));
  };
  for (const Value& pair : SortBy(rt, pairs, keys, false)) {
    const Value& key = pair.seq().items[0];
    if (!group_key || !rt.Equal(*group_key, key)) {
      flush();
      group_key = key;
    }
    group.push_back(pair.seq().items[1]);
    if (rt.failed()) return Value();
  }
  flush();
  return rt.NewSequence(std::move(groups), Flavor::kList);
}

Value Sum(Runtime& rt, const Value& input, const CallArguments& arguments) {
  Bound args(&rt, "sum", arguments, "attribute,start");
  if (!args.ok()) return Value();
  Value total = args[1] != nullptr ? *args[1] : Value::Integer(0);
  if (total.string()) return rt.Fail("sum: strings are joined, not summed");
  for (const Value& item : rt.Iterate(input)) {
    total = rt.Binary("+", total,
                      args[0] == nullptr || args[0]->none() ? item : rt.GetPath(item, *args[0]));
    if (rt.failed()) return Value();
  }
  return total;
}

}  // namespace

const FilterTable& SequenceFilters() {
  static const FilterTable table = {
      {"sort", Sort},
      {"dictsort", DictSort},
      {"unique", Unique},
      {"min", Extreme<false>},
      {"max", Extreme<true>},
      {"first", First},
      {"last", Last},
      {"join", Join},
      {"list", List},
      {"reverse", Reverse},
      {"items", Items},
      {"map", Map},
      {"select", Choose<true, false>},
      {"reject", Choose<false, false>},
      {"selectattr", Choose<true, true>},
      {"rejectattr", Choose<false, true>},
      {"batch", Batch},
      {"slice", SliceFilter},
      {"groupby", GroupBy},
      {"sum", Sum},
  };
  return table;
}

}  // namespace modu::text::jinja
