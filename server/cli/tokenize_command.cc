#include "server/cli/tokenize_command.h"

#include <iostream>
#include <iterator>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "server/cli/in_model.h"
#include "server/cli/text_command.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

namespace modu::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr char kTokenizeUsage[] =
    "usage: modu tokenize TOKENIZER [--add-special] [--parse-special] < STRINGS\n\n"
    "TOKENIZER: a tokenizer.json, a GGUF file, a folder or a model's name. STRINGS: a JSON array;\n"
    "out comes an array of arrays of token ids. --add-special adds what the model begins and ends\n"
    "a text with; --parse-special makes control tokens of their spellings.";
constexpr char kDetokenizeUsage[] =
    "usage: modu detokenize TOKENIZER < IDS\n\n"
    "TOKENIZER: as for tokenize. IDS: a JSON array of arrays of token ids; out comes an array of\n"
    "strings.";

absl::StatusOr<std::unique_ptr<text::Tokenizer>> Open(const std::string& name) {
  const absl::StatusOr<std::string> path = FileOf(name);
  if (!path.ok()) return path.status();
  absl::StatusOr<engine::TokenizerFiles> files = engine::ReadTokenizerFiles(*path);
  if (!files.ok()) return InModel(*path, files.status());
  auto tokenizer = text::LoadTokenizer(*files);
  if (!tokenizer.ok()) return InModel(*path, tokenizer.status());
  return tokenizer;
}

void WriteJson(const json& value, std::ostream& out) {
  out << value.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
}

absl::StatusOr<std::vector<int32_t>> ReadIds(const json& list, size_t index,
                                             const text::Tokenizer& tokenizer) {
  const std::string where = absl::StrCat("stdin[", index, "]");
  if (!list.is_array()) return absl::InvalidArgumentError(where + ": not an array of token ids");
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= tokenizer.vocab_size()) {
      const std::string shown = id.is_number() ? id.dump() : "a value";
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": ", shown, " is not a token id, 0 to ", tokenizer.vocab_size() - 1));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

absl::Status Tokenize(const std::vector<std::string>& arguments, std::istream& in,
                      std::ostream& out) {
  text::EncodeOptions options;
  std::string path;
  for (const std::string& argument : arguments) {
    if (argument == "--add-special") {
      options.add_special = true;
    } else if (argument == "--parse-special") {
      options.parse_special = true;
    } else if (path.empty() && !argument.empty() && argument[0] != '-') {
      path = argument;
    } else {
      return WrongUsage(Unexpected(argument), kTokenizeUsage);
    }
  }
  if (path.empty()) return WrongUsage("", kTokenizeUsage);
  absl::StatusOr<std::unique_ptr<text::Tokenizer>> tokenizer = Open(path);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<json> texts = ReadJsonArray(in);
  if (!texts.ok()) return texts.status();
  json answer = json::array();
  for (size_t i = 0; i < texts->size(); ++i) {
    const json& item = (*texts)[i];
    if (!item.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("stdin[", i, "]: not a string"));
    }
    absl::StatusOr<std::vector<int32_t>> ids =
        (*tokenizer)->Encode(item.get_ref<const std::string&>(), options);
    if (!ids.ok()) return ids.status();
    answer.push_back(*ids);
  }
  WriteJson(answer, out);
  return absl::OkStatus();
}

absl::Status Detokenize(const std::vector<std::string>& arguments, std::istream& in,
                        std::ostream& out) {
  std::string path;
  for (const std::string& argument : arguments) {
    if (!path.empty() || argument.empty() || argument[0] == '-')
      return WrongUsage(Unexpected(argument), kDetokenizeUsage);
    path = argument;
  }
  if (path.empty()) return WrongUsage("", kDetokenizeUsage);
  absl::StatusOr<std::unique_ptr<text::Tokenizer>> tokenizer = Open(path);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<json> lists = ReadJsonArray(in);
  if (!lists.ok()) return lists.status();
  json answer = json::array();
  for (size_t i = 0; i < lists->size(); ++i) {
    absl::StatusOr<std::vector<int32_t>> ids = ReadIds((*lists)[i], i, **tokenizer);
    if (!ids.ok()) return ids.status();
    answer.push_back(text::Utf8Lossy((*tokenizer)->Decode(*ids, /*skip_special=*/false)));
  }
  WriteJson(answer, out);
  return absl::OkStatus();
}

int RunTokenize(int argc, char** argv) {
  return RunTextCommand(kTokenizeUsage, Tokenize, argc, argv);
}

int RunDetokenize(int argc, char** argv) {
  return RunTextCommand(kDetokenizeUsage, Detokenize, argc, argv);
}

}  // namespace modu::cli
