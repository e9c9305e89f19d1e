// A served model without files: a tokenizer of bytes with a few control tokens, and a context of
// 1024 tokens.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api/served_model.h"

namespace modu::testing {

/// Ids 0..255 are bytes; 256 <s>, 257 </s>, 258 <|im_start|>, 259 <|im_end|> are control tokens;
/// 260.. are unused.
class ByteTokenizer final : public text::Tokenizer {
 public:
  static constexpr int32_t kBos = 256, kEos = 257, kStart = 258, kEnd = 259, kVocab = 300;

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const text::EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special) ids.push_back(kBos);
    while (!text.empty()) {
      bool control = false;
      if (options.parse_special) {
        for (int32_t id = kBos; id <= kEnd && !control; ++id) {
          const std::string spelling = TokenSpelling(id);
          if (text.substr(0, spelling.size()) != spelling) continue;
          ids.push_back(id);
          text.remove_prefix(spelling.size());
          control = true;
        }
      }
      if (control) continue;
      ids.push_back(static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
    }
    if (options.max_ids > 0 && ids.size() > options.max_ids) {
      return absl::OutOfRangeError("too many");
    }
    return ids;
  }
  std::string TokenBytes(int32_t id, bool skip_special) const override {
    if (id >= 0 && id < 256) return std::string(1, static_cast<char>(id));
    return skip_special ? "" : TokenSpelling(id);
  }
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string text;
    for (int32_t id : ids) text += TokenBytes(id, skip_special);
    return text;
  }
  std::string TokenSpelling(int32_t id) const override {
    switch (id) {
      case kBos:
        return "<s>";
      case kEos:
        return "</s>";
      case kStart:
        return "<|im_start|>";
      case kEnd:
        return "<|im_end|>";
      default:
        return id >= 0 && id < 256 ? std::string(1, static_cast<char>(id)) : "";
    }
  }
  int32_t TokenToId(std::string_view spelling) const override {
    for (int32_t id = 0; id <= kEnd; ++id) {
      if (TokenSpelling(id) == spelling) return id;
    }
    return -1;
  }
  bool IsControl(int32_t id) const override { return id >= kBos && id <= kEnd; }
  int32_t vocab_size() const override { return kVocab; }
  int32_t bos_id() const override { return kBos; }
  int32_t eos_id() const override { return kEos; }
  std::string kind() const override { return "bytes"; }
};

inline constexpr char kChatMl[] =
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

inline api::ServedModel FakeModel(
    std::shared_ptr<const text::ChatTemplate> chat_template = nullptr) {
  api::ServedModel model;
  model.names = {"tiny", "tiny-alias"};
  model.created_unix_s = 1'700'000'000;
  model.max_model_len = 1024;
  model.vocab_size = ByteTokenizer::kVocab;
  model.eos_ids = {ByteTokenizer::kEos};
  model.bos_id = ByteTokenizer::kBos;
  model.tokenizer = std::make_shared<ByteTokenizer>();
  model.chat_template = std::move(chat_template);
  return model;
}

}  // namespace modu::testing
