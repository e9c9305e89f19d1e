#include "server/text/tokenizer_file.h"

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_text.h"

namespace modu::text {
namespace {

constexpr size_t kMaxDepth = 64;

class Handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  using json = nlohmann::json;
  TokenizerFile file;
  std::string error;

  bool null() override { return Value(nullptr); }
  bool boolean(bool v) override { return Value(v); }
  bool number_integer(number_integer_t v) override { return Number(v); }
  bool number_unsigned(number_unsigned_t v) override {
    return Number(static_cast<int64_t>(std::min<uint64_t>(v, INT64_MAX)));
  }
  bool number_float(number_float_t v, const string_t&) override { return Value(v); }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool string(string_t& v) override {
    if (mode_ != Mode::kMerges) return Value(std::move(v));
    if (in_pair_) {
      pair_.push_back(std::move(v));
      return true;
    }
    const size_t space = v.find(' ');
    if (space == std::string::npos || v.find(' ', space + 1) != std::string::npos) {
      return Fail(absl::StrCat("model.merges[", file.merges.size(), "] is not two tokens"));
    }
    file.merges.emplace_back(v.substr(0, space), v.substr(space + 1));
    return true;
  }
  bool start_object(size_t) override {
    if (mode_ != Mode::kRest) return Fail("an object in model.vocab or model.merges");
    if (AtModel() && key_ == "vocab") {
      mode_ = Mode::kVocab;
      return true;
    }
    return Open(json::object());
  }
  bool end_object() override {
    if (mode_ == Mode::kVocab) {
      mode_ = Mode::kRest;
      return true;
    }
    return Close();
  }
  bool start_array(size_t) override {
    if (mode_ == Mode::kVocab) return Fail("model.vocab: an array for an id");
    if (mode_ == Mode::kMerges) {
      if (in_pair_) return Fail("model.merges: nested too deep");
      in_pair_ = true;
      pair_.clear();
      return true;
    }
    if (AtModel() && key_ == "merges") {
      mode_ = Mode::kMerges;
      return true;
    }
    return Open(json::array());
  }
  bool end_array() override {
    if (mode_ == Mode::kMerges && in_pair_) {
      if (pair_.size() != 2) {
        return Fail(absl::StrCat("model.merges[", file.merges.size(), "] is not two tokens"));
      }
      file.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      in_pair_ = false;
      return true;
    }
    if (mode_ == Mode::kMerges) {
      mode_ = Mode::kRest;
      return true;
    }
    return Close();
  }
  bool key(string_t& v) override {
    key_ = std::move(v);
    if (mode_ == Mode::kRest && stack_.size() == 1) top_key_ = key_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    return Fail(absl::StrCat("not JSON at byte ", position));
  }

 private:
  enum class Mode { kRest, kVocab, kMerges };

  bool AtModel() const {
    return stack_.size() == 2 && stack_.back()->is_object() && top_key_ == "model";
  }
  bool Fail(std::string what) {
    if (error.empty()) error = std::move(what);
    return false;
  }
  bool Number(int64_t v) {
    if (mode_ != Mode::kVocab) return Value(v);
    file.vocab.emplace_back(std::move(key_), v);
    return true;
  }
  bool Value(json v) {
    if (mode_ != Mode::kRest)
      return Fail("a value of the wrong type in model.vocab or model.merges");
    Put(std::move(v));
    return true;
  }
  json* Put(json v) {
    if (stack_.empty()) {
      file.rest = std::move(v);
      return &file.rest;
    }
    json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    json& slot = parent[key_];
    slot = std::move(v);
    return &slot;
  }
  bool Open(json container) {
    if (stack_.size() >= kMaxDepth) return Fail(absl::StrCat("nested deeper than ", kMaxDepth));
    stack_.push_back(Put(std::move(container)));
    return true;
  }
  bool Close() {
    stack_.pop_back();
    return true;
  }

  Mode mode_ = Mode::kRest;
  bool in_pair_ = false;
  std::vector<std::string> pair_;
  std::string key_, top_key_;
  std::vector<json*> stack_;  // stays valid: a container grows only at its open end
};

}  // namespace

absl::StatusOr<TokenizerFile> ReadTokenizerFile(std::string_view text) {
  if (const size_t nul = engine::FindNul(text); nul != text.npos) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: not JSON at byte ", nul + 1));
  }
  Handler handler;
  try {
    if (nlohmann::json::sax_parse(text, &handler)) return std::move(handler.file);
  } catch (const std::exception&) {
    handler.error = "cannot be read";
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", handler.error));
}

}  // namespace modu::text
