#include "engine/checkpoint/tokenizer_material.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/input_file.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/json_text.h"

namespace modu::engine {
namespace {
namespace fs = std::filesystem;

absl::Status ReadIfPresent(const std::string& folder, const char* name, uint64_t limit,
                           std::string* out) {
  auto text = ReadTextFile((fs::path(folder) / name).string(), limit);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  *out = *std::move(text);
  return absl::OkStatus();
}

/// tokenizer_config.json's chat_template: a string, or a list of {name, template}.
absl::Status TemplateFromConfig(const std::string& text, const std::string& file_name,
                                std::string* out) {
  auto json = ParseJsonObject(text, file_name);
  if (!json.ok()) return json.status();
  const auto it = json->find("chat_template");
  if (it == json->end() || it->is_null()) return absl::OkStatus();
  if (it->is_string()) {
    *out = it->get<std::string>();
    return absl::OkStatus();
  }
  const auto error = absl::InvalidArgumentError(
      absl::StrCat(file_name, ": chat_template: must be a string or a list of {name, template}"));
  if (!it->is_array()) return error;
  bool is_default = false;
  for (const Json& named : *it) {
    if (!named.is_object() || !named.contains("name") || !named.contains("template")) return error;
    const Json &name = named["name"], &text_of = named["template"];
    if (!name.is_string() || !text_of.is_string()) return error;
    if (is_default || (!out->empty() && name != "default")) continue;
    *out = text_of.get<std::string>();
    is_default = name == "default";
  }
  return absl::OkStatus();
}

/// Follows a tokenizer.json event by event: "model"."vocab" (object of ids, or Unigram's list) and
/// "added_tokens".
class IdCounter final : public nlohmann::json_sax<Json> {
 public:
  int64_t highest = -1;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override { return Number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    return Number(static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX)));
  }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override {
    // Unigram: model.vocab is a list of [piece, score]; the place is the id.
    if (depth_ == 3 && top_ == "model" && second_ == "vocab")
      highest = std::max(highest, ++unigram_);
    return Open();
  }
  bool end_array() override { return Close(); }
  bool key(string_t& value) override {
    if (depth_ == 1) top_ = value, second_.clear();
    if (depth_ == 2) second_ = value;
    if (depth_ == 3) third_ = value;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool Open() { return ++depth_ <= 64; }
  bool Close() {
    --depth_;
    return true;
  }
  bool Number(int64_t value) {
    const bool vocab = depth_ == 3 && top_ == "model" && second_ == "vocab";
    const bool added = depth_ == 3 && top_ == "added_tokens" && third_ == "id";
    if (vocab || added) highest = std::max(highest, value);
    return true;
  }

  int depth_ = 0;
  int64_t unigram_ = -1;
  std::string top_, second_, third_;
};

}  // namespace

absl::StatusOr<TokenizerFiles> ReadFolderTokenizer(const std::string& folder) {
  TokenizerFiles files;
  std::string jinja, legacy;
  struct Part {
    const char* name;
    uint64_t limit;
    std::string* out;
  };
  const Part parts[] = {
      {"tokenizer.json", kMaxTokenizerJsonBytes, &files.tokenizer_json},
      {"tokenizer_config.json", kMaxSmallJsonBytes, &files.tokenizer_config_json},
      {"special_tokens_map.json", kMaxSmallJsonBytes, &files.special_tokens_map_json},
      {"chat_template.jinja", kMaxSmallJsonBytes, &jinja},
      {"chat_template.json", kMaxSmallJsonBytes, &legacy}};
  for (const Part& part : parts) {
    if (absl::Status status = ReadIfPresent(folder, part.name, part.limit, part.out); !status.ok())
      return status;
  }
  // server/text reads these as it finds them; here is where a broken one can be named.
  for (const Part& part : {parts[1], parts[2]}) {
    if (part.out->empty()) continue;
    if (auto json = ParseJsonObject(*part.out, part.name); !json.ok()) return json.status();
  }
  if (!jinja.empty()) {
    files.chat_template = std::move(jinja);
    return files;
  }
  if (!files.tokenizer_config_json.empty()) {
    absl::Status status = TemplateFromConfig(files.tokenizer_config_json, "tokenizer_config.json",
                                             &files.chat_template);
    if (!status.ok()) return status;
  }
  if (files.chat_template.empty() && !legacy.empty()) {
    absl::Status status = TemplateFromConfig(legacy, "chat_template.json", &files.chat_template);
    if (!status.ok()) return status;
  }
  return files;
}

absl::StatusOr<int32_t> CountTokenizerIds(const std::string& tokenizer_json) {
  if (tokenizer_json.empty()) return 0;
  IdCounter counter;
  if (FindNul(tokenizer_json) != std::string::npos || !Json::sax_parse(tokenizer_json, &counter)) {
    return absl::InvalidArgumentError("tokenizer.json: is not valid JSON, or nests deeper than 64");
  }
  if (counter.highest >= (int64_t{1} << 24)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json: has id ", counter.highest, ", the limit is ", (1 << 24) - 1));
  }
  return static_cast<int32_t>(counter.highest + 1);
}

}  // namespace modu::engine
