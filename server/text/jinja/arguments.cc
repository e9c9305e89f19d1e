// Arguments of calls, filters and tests matched to names.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/jinja/runtime.h"

namespace modu::text::jinja {

Bound::Bound(Runtime* runtime, std::string_view what, const CallArguments& arguments,
             std::string_view names, size_t required)
    : runtime_(runtime),
      what_(what),
      names_(absl::StrSplit(std::string(names), ',', absl::SkipEmpty())) {
  values_.resize(names_.size() + 1, nullptr);
  if (arguments.positional.size() > names_.size()) {
    runtime->Fail(absl::StrCat("'", what_, "' takes at most ", names_.size(), " arguments"));
    ok_ = false;
    return;
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    const size_t index = static_cast<size_t>(found - names_.begin());
    if (found == names_.end() || values_[index] != nullptr) {
      runtime->Fail(absl::StrCat("'", what_, "' got an unexpected argument '", name, "'"));
      ok_ = false;
      return;
    }
    values_[index] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      runtime->Fail(absl::StrCat("'", what_, "' needs the argument '", names_[i], "'"));
      ok_ = false;
      return;
    }
  }
}

bool Bound::Bool(size_t index, bool fallback) const {
  return values_[index] == nullptr ? fallback : runtime_->Truthy(*values_[index]);
}

Int Bound::Integer(size_t index, Int fallback) {
  const Value* value = values_[index];
  if (value == nullptr) return fallback;
  if (value->integral()) return value->as_int();
  runtime_->Fail(absl::StrCat("'", what_, "': '", names_[index], "' must be an integer"));
  ok_ = false;
  return fallback;
}

std::string Bound::Text(size_t index, std::string_view fallback) {
  const Value* value = values_[index];
  if (value == nullptr) return std::string(fallback);
  if (value->string()) return value->text();
  runtime_->Fail(absl::StrCat("'", what_, "': '", names_[index], "' must be a string"));
  ok_ = false;
  return std::string(fallback);
}

}  // namespace modu::text::jinja
