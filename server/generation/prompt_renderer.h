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

  struct Options {
    int64_t now_unix_s = 0;  // what a template takes for the time
    /// Text of more tokens is refused as too long, soon after the tokenizer has come so far: what
    /// cannot be served must not cost as if it were. 0: no limit.
    size_t max_tokens = 0;
    /// Text that comes to no tokens is an empty prompt rather than the model's first token, or an
    /// error where it has none: nothing is to be generated from it.
    bool may_be_empty = false;
    /// If any, called between template and tokenizer; never for a plain prompt.
    std::function<void()> on_rendered = {};
  };
  /// Linear in the prompt's size, within the template's budgets. Errors: 400 with the template's
  /// own words, a regex limit, an empty prompt without BOS, more than max_tokens.
  api::Parsed<RenderedPrompt> Render(const api::Prompt& prompt, const Options& options) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, int32_t>> next;
    bool end = false;
  };

  api::Parsed<RenderedPrompt> RenderChat(const api::ChatPrompt& prompt,
                                         const Options& options) const;
  /// The first piece with `first`'s options, the others with no tokens added; `field`: to be named
  /// by errors.
  api::Parsed<RenderedPrompt> Tokenize(const std::vector<std::string>& pieces,
                                       text::EncodeOptions first, const char* field,
                                       bool may_be_empty) const;
  /// Bytes of the longest control spelling at the start of `text`, or 0.
  size_t ControlSpellingAt(std::string_view text) const;
  void MarkString(std::string_view marker, std::string* text) const;
  void MarkStrings(std::string_view marker, nlohmann::ordered_json* value) const;

  const api::ServedModel& model_;
  std::vector<Node> trie_;             // of control tokens' spellings
  std::array<bool, 256> may_start_{};  // first bytes of them
};

}  // namespace modu::generation
