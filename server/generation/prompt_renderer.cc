#include "server/generation/prompt_renderer.h"

#include <algorithm>
#include <utility>

#include "server/api/error.h"
#include "server/generation/generation_service.h"

namespace modu::generation {
namespace {

using Json = nlohmann::ordered_json;

bool ContainsText(const Json& value, std::string_view text) {
  if (value.is_string()) return value.get_ref<const std::string&>().find(text) != std::string::npos;
  if (!value.is_structured()) return false;
  // Depth was bounded when the body was read.
  return std::any_of(value.begin(), value.end(),
                     [&](const Json& item) { return ContainsText(item, text); });
}

std::vector<std::string> Split(const std::string& text, std::string_view marker) {
  std::vector<std::string> pieces;
  size_t start = 0;
  while (true) {
    const size_t at = marker.empty() ? text.npos : text.find(marker, start);
    pieces.push_back(text.substr(start, at == text.npos ? text.npos : at - start));
    if (at == text.npos) return pieces;
    start = at + marker.size();
  }
}

std::string_view TrimRight(std::string_view text) {
  const size_t end = text.find_last_not_of(" \t\r\n\f\v");
  return end == text.npos ? std::string_view() : text.substr(0, end + 1);
}

std::string_view Trim(std::string_view text) {
  text = TrimRight(text);
  const size_t start = text.find_first_not_of(" \t\r\n\f\v");
  return start == text.npos ? std::string_view() : text.substr(start);
}

}  // namespace

PromptRenderer::PromptRenderer(const api::ServedModel* model) : model_(*model), trie_(1) {
  if (model_.tokenizer == nullptr) return;
  for (int32_t id = 0; id < model_.tokenizer->vocab_size(); ++id) {
    if (!model_.tokenizer->IsControl(id)) continue;
    const std::string spelling = model_.tokenizer->TokenSpelling(id);
    // One byte cannot be cut in two; no real control token is that short.
    if (spelling.size() < 2) continue;
    may_start_[static_cast<unsigned char>(spelling[0])] = true;
    int32_t node = 0;
    for (unsigned char c : spelling) {
      auto& next = trie_[node].next;
      auto edge =
          std::find_if(next.begin(), next.end(), [c](const auto& e) { return e.first == c; });
      if (edge == next.end()) {
        const auto fresh = static_cast<int32_t>(trie_.size());
        next.emplace_back(c, fresh);
        trie_.emplace_back();
        node = fresh;
      } else {
        node = edge->second;
      }
    }
    trie_[node].end = true;
  }
}

size_t PromptRenderer::ControlSpellingAt(std::string_view text) const {
  if (text.empty() || !may_start_[static_cast<unsigned char>(text[0])]) return 0;
  size_t longest = 0;
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto& next = trie_[node].next;
    const auto edge =
        std::find_if(next.begin(), next.end(), [c](const auto& e) { return e.first == c; });
    if (edge == next.end()) break;
    node = edge->second;
    if (trie_[node].end) longest = i + 1;
  }
  return longest;
}

void PromptRenderer::MarkString(std::string_view marker, std::string* text) const {
  std::string marked;
  size_t copied = 0;
  // Every position is looked at, also inside a spelling that was found: spellings may overlap.
  for (size_t i = 0; i < text->size(); ++i) {
    if (ControlSpellingAt(std::string_view(*text).substr(i)) == 0) continue;
    marked.append(*text, copied, i + 1 - copied);
    marked += marker;
    copied = i + 1;
  }
  if (copied == 0) return;
  marked.append(*text, copied);
  *text = std::move(marked);
}

void PromptRenderer::MarkStrings(std::string_view marker, Json* value) const {
  if (value->is_string()) {
    MarkString(marker, &value->get_ref<std::string&>());
  } else if (value->is_structured()) {
    for (Json& item : *value) MarkStrings(marker, &item);
  }
}

api::Parsed<RenderedPrompt> PromptRenderer::Render(const api::Prompt& prompt,
                                                   const Options& options) const {
  if (const auto* tokens = std::get_if<api::TokenPrompt>(&prompt)) {
    RenderedPrompt rendered;
    rendered.token_ids = tokens->token_ids;
    if (model_.tokenizer != nullptr)
      rendered.text = model_.tokenizer->Decode(tokens->token_ids, false);
    return rendered;
  }
  if (model_.tokenizer == nullptr) {
    return api::InvalidField("prompt",
                             "this model is served without a tokenizer: prompt must be token ids");
  }
  if (const auto* text = std::get_if<api::TextPrompt>(&prompt)) {
    return Tokenize({text->text}, {text->add_special_tokens, false, options.max_tokens}, "prompt",
                    options.may_be_empty);
  }
  return RenderChat(std::get<api::ChatPrompt>(prompt), options);
}

api::Parsed<RenderedPrompt> PromptRenderer::RenderChat(const api::ChatPrompt& prompt,
                                                       const Options& options) const {
  if (model_.chat_template == nullptr) {
    return api::InvalidField("messages", "this model has no chat template: use /v1/completions");
  }
  Json variables = prompt.template_kwargs;
  variables["messages"] = prompt.messages;

  // A marker that no client string holds: noncharacters around a counter.
  std::string marker;
  for (int k = 0; marker.empty() || ContainsText(variables, marker); ++k) {
    marker = "\xEF\xB7\x90" + std::to_string(k) + "\xEF\xB7\x91";
  }
  std::string final_text;
  for (auto& [name, value] : variables.items()) MarkStrings(marker, &value);
  if (prompt.continue_final_message) {
    final_text = variables["messages"].back().at("content").get<std::string>();
  }
  variables["add_generation_prompt"] = prompt.add_generation_prompt;
  variables["continue_final_message"] = prompt.continue_final_message;
  variables["bos_token"] = model_.bos_token;
  variables["eos_token"] = model_.eos_token;
  // As transformers does: templates ask `tools is not none`.
  for (const char* name : {"tools", "documents"}) {
    if (!variables.contains(name)) variables[name] = nullptr;
  }

  absl::StatusOr<std::string> text = model_.chat_template->Render(variables, options.now_unix_s);
  if (!text.ok()) {
    return api::InvalidField("messages", "chat template: " + std::string(text.status().message()));
  }
  if (prompt.continue_final_message) {
    // As HF transformers cuts: after the last place where the final message stands, as given or
    // trimmed.
    const std::string_view trimmed = Trim(final_text);
    const size_t at = text->rfind(trimmed);
    if (trimmed.empty() || at == text->npos) {
      return api::InvalidField("continue_final_message",
                               "the chat template does not show the final message as it is");
    }
    size_t end = at + trimmed.size();
    const std::string_view tail = std::string_view(final_text).substr(TrimRight(final_text).size());
    if (std::string_view(*text).substr(end, tail.size()) == tail) end += tail.size();
    text->resize(end);
  }
  if (options.on_rendered) options.on_rendered();
  return Tokenize(Split(*text, marker), {prompt.add_special_tokens, true, options.max_tokens},
                  "messages", options.may_be_empty);
}

api::Parsed<RenderedPrompt> PromptRenderer::Tokenize(const std::vector<std::string>& pieces,
                                                     text::EncodeOptions first, const char* field,
                                                     bool may_be_empty) const {
  RenderedPrompt rendered;
  text::EncodeOptions options = first;
  for (const std::string& piece : pieces) {
    const absl::StatusOr<std::vector<int32_t>> ids = model_.tokenizer->Encode(piece, options);
    if (ids.status().code() == absl::StatusCode::kOutOfRange ||
        (ids.ok() && options.max_ids > 0 &&
         rendered.token_ids.size() + ids->size() > options.max_ids)) {
      return api::ContextLengthExceeded(
          field, model_.max_model_len,
          "more than " + std::to_string(options.max_ids) + " tokens in the prompt", true);
    }
    if (!ids.ok()) return api::FromStatus(ids.status());
    rendered.token_ids.insert(rendered.token_ids.end(), ids->begin(), ids->end());
    rendered.text += piece;
    options.add_special = false;
  }
  if (!rendered.token_ids.empty() || may_be_empty) return rendered;
  if (!first.add_special) {
    return api::InvalidField(
        field, std::string(field) + " must not be empty where add_special_tokens is false");
  }
  if (model_.bos_id < 0) {
    return api::InvalidField(field, std::string(field) +
                                        " must not be empty: this model has no "
                                        "beginning-of-text token to start from");
  }
  rendered.token_ids.push_back(model_.bos_id);
  return rendered;
}

}  // namespace modu::generation
