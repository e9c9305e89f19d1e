#include "server/cli/model_files.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/store/store.h"
#include "server/text/chat_template_source.h"

namespace modu::cli {
namespace {

std::string BaseName(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  path = path.substr(path.find_last_of('/') + 1);
  const size_t suffix = path.rfind(".gguf");
  return suffix != std::string::npos && suffix + 5 == path.size() ? path.substr(0, suffix) : path;
}

/// What it was asked for by, if that is a name, then what it is called where it lies.
std::vector<std::string> DefaultNames(const std::string& model, const std::string& path) {
  const std::string there = BaseName(path);
  const std::string name = store::NameOf(model, store::StoreOptionsFromEnvironment());
  if (name.empty() || name == there) return {there};
  return {name, there};
}

}  // namespace

absl::StatusOr<api::ServedModel> ServedModelOf(const config::Config& config,
                                               const std::string& path,
                                               const engine::LoadedModel& loaded) {
  api::ServedModel served;
  served.names = config.served_model_names;
  if (served.names.empty()) served.names = DefaultNames(config.model, path);
  served.created_unix_s = std::time(nullptr);
  served.max_model_len = loaded.runner->spec().max_model_len;
  served.vocab_size = loaded.config.vocab_size;
  served.eos_ids = loaded.config.eos_ids;
  served.bos_id = loaded.config.bos_id;
  served.defaults = loaded.config.generation;

  const engine::TokenizerFiles& files = loaded.tokenizer;
  if (files.from_gguf ? files.tokens.empty() : files.tokenizer_json.empty()) return served;
  absl::StatusOr<std::unique_ptr<text::Tokenizer>> tokenizer = text::LoadTokenizer(files);
  if (!tokenizer.ok()) return tokenizer.status();
  served.tokenizer = std::move(*tokenizer);
  const text::ChatTemplateSource source = text::FindChatTemplate(files);
  if (source.source.empty()) return served;
  served.bos_token = source.bos_token;
  served.eos_token = source.eos_token;
  const text::TemplateBudget budget{config.limits.template_max_steps,
                                    config.limits.template_max_depth,
                                    config.limits.template_max_output_bytes};
  absl::StatusOr<std::unique_ptr<text::ChatTemplate>> chat_template =
      text::ChatTemplate::Parse(source.source, budget);
  if (!chat_template.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template: ", chat_template.status().message()));
  }
  served.chat_template = std::move(*chat_template);
  return served;
}

}  // namespace modu::cli
