#include "server/text/pipeline_tokenizer.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "server/text/byte_alphabet.h"

namespace modu::text {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr size_t kMaxAddedTokenBytes = 4096;

class PipelineTokenizer : public Tokenizer {
 public:
  PipelineTokenizer(Pipeline pipeline, AddedTokenSet raw, AddedTokenSet normalized,
                    std::vector<int32_t> control)
      : p_(std::move(pipeline)),
        spellings_(p_.spellings),
        control_(std::move(control)),
        raw_(std::move(raw)),
        normalized_(std::move(normalized)) {
    std::vector<std::string> bytes(p_.spellings.size());
    for (size_t id = 0; id < bytes.size(); ++id) bytes[id] = p_.decoder.Bytes(p_.spellings[id]);
    for (const AddedToken& token : p_.added) bytes[token.id] = token.content;
    if (p_.model.bytes) {
      std::vector<std::string> raw_spellings(p_.spellings.size());
      for (size_t id = 0; id < raw_spellings.size(); ++id) {
        if (auto b = FromByteAlphabet(p_.spellings[id])) raw_spellings[id] = *std::move(b);
      }
      model_vocabulary_ = Vocabulary(raw_spellings);
    }
    bytes_ = Vocabulary(bytes);
    is_control_.assign(p_.spellings.size(), false);
    for (const int32_t id : control_) is_control_[id] = true;
    std::vector<int32_t> banned = control_;
    banned.insert(banned.end(), p_.outside_model.begin(), p_.outside_model.end());
    std::sort(banned.begin(), banned.end());
    model_ = std::make_unique<BpeModel>(p_.model.bytes ? &model_vocabulary_ : &spellings_,
                                        p_.merges, banned, p_.model);
    p_.merges = {};
    p_.spellings = {};
  }

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                              const EncodeOptions& options) const override {
    if (text.size() > kMaxTextBytes) {
      return absl::InvalidArgumentError(absl::StrCat("text: more than ", kMaxTextBytes, " bytes"));
    }
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 4 + 8);
    if (options.add_special) ids.insert(ids.end(), p_.prefix.begin(), p_.prefix.end());
    const size_t max_ids = options.max_ids > 0 ? options.max_ids : SIZE_MAX;
    Call call{options.parse_special, max_ids, BpeModel::Scratch(text.size()), &ids, true};
    for (const Section& section : raw_.Split(text, options.parse_special)) {
      if (section.id >= 0) {
        ids.push_back(section.id);
        call.prepend = true;
        call.at_start = false;
        continue;
      }
      const auto part = text.substr(section.span.begin, section.span.end - section.span.begin);
      if (absl::Status s = EncodeSection(part, &call); !s.ok()) return s;
    }
    if (options.add_special) ids.insert(ids.end(), p_.suffix.begin(), p_.suffix.end());
    if (call.Full()) return call.TooMany();
    return ids;
  }

  std::string TokenBytes(int32_t id, bool skip_special) const override {
    if (skip_special && IsControl(id)) return "";
    return std::string(bytes_.Spelling(id));
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const int32_t id : ids) {
      if (skip_special && IsControl(id)) continue;
      const std::string_view spelling = spellings_.Spelling(id);
      if (!spelling.empty()) tokens.emplace_back(spelling);
    }
    return p_.decoder.Join(std::move(tokens));
  }

  std::string TokenSpelling(int32_t id) const override {
    return std::string(spellings_.Spelling(id));
  }
  int32_t TokenToId(std::string_view spelling) const override { return spellings_.Find(spelling); }
  bool IsControl(int32_t id) const override {
    return id >= 0 && id < vocab_size() && is_control_[id];
  }
  int32_t vocab_size() const override { return spellings_.size(); }
  int32_t bos_id() const override { return p_.bos_id; }
  int32_t eos_id() const override { return p_.eos_id; }
  std::string kind() const override { return p_.kind; }

 private:
  struct Call {
    bool parse_special;
    size_t max_ids;
    BpeModel::Scratch scratch;
    std::vector<int32_t>* ids;
    bool at_start;        // nothing of the text has come yet
    bool prepend = true;  // what a normalizer prepends, it prepends here

    bool Full() const { return ids->size() > max_ids; }
    absl::Status TooMany() const {
      return absl::OutOfRangeError(absl::StrCat("text: more than ", max_ids, " tokens"));
    }
  };

  /// Text without added tokens, of which the well-formed parts go through the pipeline.
  absl::Status EncodeSection(std::string_view text, Call* call) const {
    while (!text.empty()) {
      const size_t valid = ValidPrefix(text);
      if (valid > 0) {
        if (absl::Status s = EncodeText(text.substr(0, valid), call); !s.ok()) return s;
        call->prepend = call->at_start = false;
      }
      text.remove_prefix(valid);
      size_t bad = 0;
      while (bad < text.size() && ValidPrefix(text.substr(bad, 4)) == 0) ++bad;
      if (bad > 0) {
        EncodeIllFormed(text.substr(0, bad), call);
        call->prepend = call->at_start = false;
      }
      text.remove_prefix(bad);
    }
    return absl::OkStatus();
  }

  void EncodeIllFormed(std::string_view bytes, Call* call) const {
    if (p_.byte_alphabet_text) {
      model_->Encode(ToByteAlphabet(bytes), call->max_ids, &call->scratch, call->ids);
    } else {
      model_->EncodeBytes(bytes, &call->scratch, call->ids);
    }
  }

  absl::Status EncodeText(std::string_view text, Call* call) const {
    if (p_.normalizer == nullptr && normalized_.empty()) {
      return EncodePieces(text, call);
    }
    std::string normal(text);
    if (p_.normalizer != nullptr) {
      if (absl::Status s = p_.normalizer->Apply(call->prepend, &normal); !s.ok()) return s;
    }
    for (const Section& section : normalized_.Split(normal, call->parse_special)) {
      if (section.id >= 0) {
        call->ids->push_back(section.id);
        call->at_start = false;
        continue;
      }
      const auto part = std::string_view(normal).substr(section.span.begin,
                                                        section.span.end - section.span.begin);
      if (absl::Status s = EncodePieces(part, call); !s.ok()) return s;
      call->at_start = false;
    }
    return absl::OkStatus();
  }

  absl::Status EncodePieces(std::string_view text, Call* call) const {
    if (p_.pre_tokenizer == nullptr) {
      model_->Encode(text, call->max_ids, &call->scratch, call->ids);
      return call->Full() ? call->TooMany() : absl::OkStatus();
    }
    PreTokenized state;
    state.text = text;
    state.pieces.push_back({0, text.size()});
    state.at_start = call->at_start;
    if (absl::Status s = p_.pre_tokenizer->Apply(&state); !s.ok()) return s;
    for (const Span& piece : state.pieces) {
      model_->Encode(std::string_view(state.text).substr(piece.begin, piece.end - piece.begin),
                     call->max_ids, &call->scratch, call->ids);
      if (call->Full()) return call->TooMany();
    }
    return absl::OkStatus();
  }

  Pipeline p_;
  Vocabulary spellings_;         // as the file has them
  Vocabulary model_vocabulary_;  // in bytes, where the model's pieces are
  Vocabulary bytes_;             // what each token adds to running text
  std::vector<int32_t> control_;
  std::vector<bool> is_control_;
  AddedTokenSet raw_, normalized_;
  std::unique_ptr<BpeModel> model_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(Pipeline pipeline) {
  std::vector<AddedToken> raw, normalized;
  std::vector<std::string> raw_patterns, normalized_patterns;
  std::vector<int32_t> control = pipeline.control;
  // Where two normalize to the same text the first counts, special ones before others.
  std::stable_partition(pipeline.added.begin(), pipeline.added.end(),
                        [](const AddedToken& token) { return token.special; });
  for (const AddedToken& token : pipeline.added) {
    if (token.content.size() > kMaxAddedTokenBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer: added token ", token.id, " is longer than ", kMaxAddedTokenBytes, " bytes"));
    }
    if (token.special) control.push_back(token.id);
    if (!token.normalized) {
      raw.push_back(token);
      raw_patterns.push_back(token.content);
      continue;
    }
    std::string pattern = token.content;
    if (pipeline.normalizer != nullptr) {
      if (absl::Status s = pipeline.normalizer->Apply(true, &pattern); !s.ok()) return s;
    }
    normalized.push_back(token);
    normalized_patterns.push_back(std::move(pattern));
  }
  std::sort(control.begin(), control.end());
  control.erase(std::unique(control.begin(), control.end()), control.end());
  return std::make_unique<PipelineTokenizer>(
      std::move(pipeline), AddedTokenSet(std::move(raw), raw_patterns),
      AddedTokenSet(std::move(normalized), normalized_patterns), std::move(control));
}

}  // namespace modu::text
