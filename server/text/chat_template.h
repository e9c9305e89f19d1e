// Chat templates: a Jinja engine of our own with budgets. Immutable after parsing, safe from any
// thread. A template reaches its variables and the listed filters and tests, nothing else: no
// files, attributes, imports, environment.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace modu::text {

struct TemplateBudget {
  int64_t max_steps = 1'000'000;
  int32_t max_depth = 128;
  int64_t max_output_bytes = 4 << 20;
};

class ChatTemplate {
 public:
  /// kInvalidArgument: syntax, with line and what was expected; or nesting past the budget.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(std::string_view source,
                                                             const TemplateBudget& budget = {});
  ~ChatTemplate();

  /// variables: messages, tools, add_generation_prompt, bos_token, eos_token, and whatever the
  /// caller adds; key order of objects is kept. now_unix_s serves strftime_now. Errors:
  /// raise_exception's text, an unknown name used, a budget.
  absl::StatusOr<std::string> Render(const nlohmann::ordered_json& variables,
                                     int64_t now_unix_s) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace modu::text
