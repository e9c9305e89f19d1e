#include "server/cli/render_command.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "server/cli/in_model.h"
#include "server/cli/iso_time.h"
#include "server/cli/text_command.h"
#include "server/text/chat_template.h"
#include "server/text/chat_template_source.h"

namespace modu::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr char kUsage[] =
    "usage: modu render FOLDER|TEMPLATE [--bos-token T] [--eos-token T] [--now ISO8601] < CHATS\n\n"
    "A template's file, a GGUF file, a model's folder or name. CHATS: a JSON array of\n"
    "{messages, tools?, add_generation_prompt?, ...}; out comes an array of strings. --now: a "
    "date, or\n"
    "2025-07-26T12:34:00 with Z, +09:00 or nothing (UTC); templates see it in UTC.";
constexpr size_t kMaxFileBytes = 8 << 20;

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxFileBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return text;
}

bool IsGguf(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  char magic[4] = {};
  in.read(magic, sizeof(magic));
  return std::string(magic, sizeof(magic)) == "GGUF";
}

absl::StatusOr<text::ChatTemplateSource> Load(const std::string& name) {
  const absl::StatusOr<std::string> file = FileOf(name);
  if (!file.ok()) return file.status();
  const fs::path path(*file);
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (!IsGguf(path)) return text::ChatTemplateSource{ReadFile(path), "", ""};
    absl::StatusOr<engine::TokenizerFiles> files = engine::ReadTokenizerFiles(*file);
    if (!files.ok()) return InModel(*file, files.status());
    return text::FindChatTemplate(*files);
  }
  // The folder need not have a tokenizer.
  const absl::StatusOr<engine::TokenizerFiles> files = engine::ReadTokenizerFiles(*file);
  if (!files.ok()) return InModel(*file, files.status());
  text::ChatTemplateSource source = text::FindChatTemplate(*files);
  if (source.source.empty()) return absl::NotFoundError("the folder has no chat template");
  return source;
}

}  // namespace

absl::Status Render(const std::vector<std::string>& arguments, std::istream& in,
                    std::ostream& out) {
  std::string name;
  std::optional<std::string> bos, eos;
  int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count();
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string argument = arguments[i];
    std::optional<std::string> value;
    const size_t equals = argument.find('=');
    if (argument.rfind("--", 0) == 0 && equals != argument.npos) {
      value = argument.substr(equals + 1);
      argument.resize(equals);
    }
    const bool known =
        argument == "--bos-token" || argument == "--eos-token" || argument == "--now";
    if (!known) {
      if (!name.empty() || argument.empty() || argument[0] == '-')
        return WrongUsage(Unexpected(argument), kUsage);
      name = argument;
      continue;
    }
    if (!value && i + 1 < arguments.size()) value = arguments[++i];
    if (!value) return WrongUsage(argument + " needs a value", kUsage);
    if (argument == "--bos-token") {
      bos = value;
    } else if (argument == "--eos-token") {
      eos = value;
    } else {
      const absl::StatusOr<int64_t> parsed = ParseIsoTime(*value);
      if (!parsed.ok())
        return absl::InvalidArgumentError(absl::StrCat("--now: ", parsed.status().message()));
      now = *parsed;
    }
  }
  if (name.empty()) return WrongUsage("", kUsage);
  absl::StatusOr<text::ChatTemplateSource> source = Load(name);
  if (!source.ok()) return source.status();
  absl::StatusOr<std::unique_ptr<text::ChatTemplate>> parsed =
      text::ChatTemplate::Parse(source->source);
  if (!parsed.ok()) return parsed.status();

  const absl::StatusOr<Json> read = ReadJsonArray(in);
  if (!read.ok()) return read.status();
  const Json& conversations = *read;
  Json answer = Json::array();
  for (size_t i = 0; i < conversations.size(); ++i) {
    if (!conversations[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("stdin[", i, "]: not an object"));
    }
    Json variables = {{"bos_token", bos.value_or(source->bos_token)},
                      {"eos_token", eos.value_or(source->eos_token)},
                      {"tools", nullptr},
                      {"add_generation_prompt", true}};
    for (auto it = conversations[i].begin(); it != conversations[i].end(); ++it)
      variables[it.key()] = it.value();
    absl::StatusOr<std::string> text = (*parsed)->Render(variables, now);
    if (!text.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("stdin[", i, "]: ", std::string(text.status().message())));
    }
    answer.push_back(*text);
  }
  out << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  return absl::OkStatus();
}

int RunRender(int argc, char** argv) { return RunTextCommand(kUsage, Render, argc, argv); }

}  // namespace modu::cli
