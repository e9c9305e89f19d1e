#include "server/text/chat_template.h"

#include "absl/strings/str_cat.h"
#include "server/text/jinja/interpreter.h"
#include "server/text/jinja/parser.h"
#include "server/text/jinja/unicode.h"

namespace modu::text {
namespace {

constexpr size_t kMaxSourceBytes =
    1 << 20;  // the largest template of a published model is under 64 KiB

}  // namespace

struct ChatTemplate::Impl {
  std::unique_ptr<jinja::Template> parsed;
  TemplateBudget budget;
};

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source,
                                                                  const TemplateBudget& budget) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the template is longer than the limit of ", kMaxSourceBytes, " bytes"));
  }
  if (!jinja::IsValidUtf8(source)) return absl::InvalidArgumentError("the template is not UTF-8");
  absl::StatusOr<std::unique_ptr<jinja::Template>> parsed =
      jinja::ParseTemplate(source, budget.max_depth);
  if (!parsed.ok()) return parsed.status();
  auto impl = std::make_unique<Impl>();
  impl->parsed = *std::move(parsed);
  impl->budget = budget;
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::string> ChatTemplate::Render(const nlohmann::ordered_json& variables,
                                                 int64_t now_unix_s) const {
  return jinja::Interpreter(*impl_->parsed, variables, impl_->budget, now_unix_s).Run();
}

}  // namespace modu::text
