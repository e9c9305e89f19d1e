// From a validated prompt to token ids: chat template, then tokenizer. What a client wrote never
// becomes a control token, though the template's own control tokens do: their spellings in client
// strings are marked before rendering and tokenized in two halves, so that no half spells one.
// Immutable, safe from any thread; runs on text threads.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/generation_request.h"
#include "server/api/request_fields.h"
#include "server/api/served_model.h"

namespace modu::generation {

struct RenderedPrompt;

class PromptRenderer {
 public:
  /// `model` must outlive the renderer.
  explicit PromptRenderer(const api::ServedModel* model);

  /// Linear in the prompt's size, within the template's budgets. Errors: 400 with the template's
  /// own words, a regex limit, an empty prompt without BOS.
  /// `on_rendered`, if any, is called between template and tokenizer; never for a plain prompt.
  api::Parsed<RenderedPrompt> Render(const api::Prompt& prompt, int64_t now_unix_s,
                                     const std::function<void()>& on_rendered = {}) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, int32_t>> next;
    bool end = false;
  };

  api::Parsed<RenderedPrompt> RenderChat(const api::ChatPrompt& prompt, int64_t now_unix_s,
                                         const std::function<void()>& on_rendered) const;
  api::Parsed<RenderedPrompt> Tokenize(std::vector<std::string> pieces, bool add_special,
                                       bool parse_special) const;
  /// Bytes of the longest control spelling at the start of `text`, or 0.
  size_t ControlSpellingAt(std::string_view text) const;
  void MarkString(std::string_view marker, std::string* text) const;
  void MarkStrings(std::string_view marker, nlohmann::ordered_json* value) const;

  const api::ServedModel& model_;
  std::vector<Node> trie_;             // of control tokens' spellings
  std::array<bool, 256> may_start_{};  // first bytes of them
};

}  // namespace modu::generation
