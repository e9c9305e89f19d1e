#include "server/cli/render_command.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "server/cli/in_model.h"
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
    "{messages, tools?, add_generation_prompt?, ...}; out comes an array of strings.";
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

/// "2025-07-26", "2025-07-26T12:00:00", with or without Z.
absl::StatusOr<int64_t> ParseTime(const std::string& text) {
  std::tm time{};
  int used = 0;
  const int fields =
      std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &time.tm_year, &time.tm_mon, &time.tm_mday, &used);
  if (fields == 3) {
    const std::string rest = text.substr(static_cast<size_t>(used));
    int rest_used = 0;
    const bool has_time = std::sscanf(rest.c_str(), "%*1[T ]%2d:%2d:%2d%n", &time.tm_hour,
                                      &time.tm_min, &time.tm_sec, &rest_used) == 3;
    const std::string tail = has_time ? rest.substr(static_cast<size_t>(rest_used)) : rest;
    const bool in_range = time.tm_mon >= 1 && time.tm_mon <= 12 && time.tm_mday >= 1 &&
                          time.tm_mday <= 31 && time.tm_hour < 24 && time.tm_min < 60 &&
                          time.tm_sec < 61;
    if (in_range && (tail.empty() || (has_time && tail == "Z"))) {
      time.tm_year -= 1900;
      time.tm_mon -= 1;
      return static_cast<int64_t>(timegm(&time));
    }
  }
  return absl::InvalidArgumentError("--now: expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS[Z] (UTC)");
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
    if (known && !value && i + 1 < arguments.size()) value = arguments[++i];
    if (known && value && argument == "--bos-token") {
      bos = value;
    } else if (known && value && argument == "--eos-token") {
      eos = value;
    } else if (known && value) {
      absl::StatusOr<int64_t> parsed = ParseTime(*value);
      if (!parsed.ok()) return parsed.status();
      now = *parsed;
    } else if (name.empty() && !argument.empty() && argument[0] != '-') {
      name = argument;
    } else {
      return absl::InvalidArgumentError(kUsage);
    }
  }
  if (name.empty()) return absl::InvalidArgumentError(kUsage);
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
