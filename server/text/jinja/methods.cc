// Methods of dict, list and tuple, and of Jinja's loop, cycler and joiner.
#include "server/text/jinja/methods.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace modu::text::jinja {
namespace {

Value CopyMethod(Runtime&, const Value& self, const CallArguments&) { return self; }

Value GetMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "get", arguments, "key,default", 1);
  if (!args.ok()) return Value();
  const Value* found = rt.FindKey(self.map(), *args[0]);
  return found != nullptr ? *found : args[1] != nullptr ? *args[1] : Value::None();
}

template <Flavor kFlavor>
Value ViewMethod(Runtime& rt, const Value& self, const CallArguments& arguments) {
  Bound args(&rt, "items/keys/values", arguments, "");
  std::vector<Value> items;
  for (const auto& [key, value] : self.map().items) {
    if (kFlavor == Flavor::kKeys) {
      items.push_back(key);
    } else if (kFlavor == Flavor::kValues) {
      items.push_back(value);
    } else {
      items.push_back(Value::Tuple({key, value}));
    }
    if (items.size() % 1024 == 0 && !rt.Charge(128)) break;
  }
  return rt.NewSequence(std::move(items), kFlavor);
}

Value LoopCycle(Runtime& rt, const Value& self, const CallArguments& arguments) {
  if (arguments.positional.empty()) return rt.Fail("loop.cycle needs arguments");
  return arguments.positional[static_cast<size_t>(self.loop().index) % arguments.positional.size()];
}

Value LoopChanged(Runtime& rt, const Value& self, const CallArguments& arguments) {
  LoopObject& loop = self.loop();
  bool same = loop.has_changed_value && loop.changed_value.size() == arguments.positional.size();
  for (size_t i = 0; same && i < arguments.positional.size(); ++i) {
    same = rt.Equal(loop.changed_value[i], arguments.positional[i]);
  }
  loop.has_changed_value = true;
  loop.changed_value = arguments.positional;
  return Value::Bool(!same);
}

Value CyclerNext(Runtime&, const Value& self, const CallArguments&) {
  CyclerObject& cycler = self.cycler();
  const Value current = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return current;
}

Value CyclerReset(Runtime&, const Value& self, const CallArguments&) {
  self.cycler().position = 0;
  return Value::None();
}

const MethodTable& DictMethods() {
  static const MethodTable table = {{"get", GetMethod},
                                    {"keys", ViewMethod<Flavor::kKeys>},
                                    {"values", ViewMethod<Flavor::kValues>},
                                    {"items", ViewMethod<Flavor::kItems>},
                                    {"copy", CopyMethod}};
  return table;
}

const MethodTable& ListMethods() {
  static const MethodTable table = {
      {"index", IndexMethod}, {"count", CountMethod}, {"copy", CopyMethod}};
  return table;
}

const MethodTable& LoopMethods() {
  static const MethodTable table = {{"cycle", LoopCycle}, {"changed", LoopChanged}};
  return table;
}

const MethodTable& CyclerMethods() {
  static const MethodTable table = {{"next", CyclerNext}, {"reset", CyclerReset}};
  return table;
}

Method FindMethodOf(const Value& self, std::string_view name) {
  const MethodTable* table = nullptr;
  switch (self.kind()) {
    case Kind::kString:
      table = &StringMethods();
      break;
    case Kind::kDict:
      table = &DictMethods();
      break;
    case Kind::kSequence:
      if (!self.seq().indexable() || (name == "copy" && self.seq().flavor != Flavor::kList))
        return nullptr;
      table = &ListMethods();
      break;
    case Kind::kLoop:
      table = &LoopMethods();
      break;
    case Kind::kCycler:
      table = &CyclerMethods();
      break;
    default:
      return nullptr;
  }
  const auto found = table->find(name);
  return found == table->end() ? nullptr : found->second;
}

}  // namespace

bool HasMethod(const Value& self, std::string_view name) {
  return FindMethodOf(self, name) != nullptr;
}

Value Runtime::CallMethod(const Value& self, const std::string& name,
                          const CallArguments& arguments) {
  if (!Charge(1)) return Value();
  if (name == "__mod__") return ModMethod(*this, self, arguments);
  const Method method = FindMethodOf(self, name);
  if (method == nullptr)
    return Fail(absl::StrCat("a ", TypeName(self), " has no method '", name, "'"));
  return method(*this, self, arguments);
}

}  // namespace modu::text::jinja
