#include "server/config/load.h"

#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/config/checks.h"
#include "server/config/settings.h"

namespace modu::config {
namespace {

constexpr off_t kMaxConfigFileBytes = 1 << 20;

const SettingRow* FindSetting(const std::string& name) {
  for (const SettingRow& row : Settings()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

bool IsBool(const SettingRow& row) { return std::holds_alternative<BoolField>(row.field); }

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

/// Where each setting's value came from; absent: its default.
using Sources = std::map<std::string, std::string>;

absl::Status TakeYamlEntry(const std::string& key, const YAML::Node& value, Config& config,
                           Sources& sources) {
  std::string text;
  if (value.IsScalar()) {
    text = value.Scalar();
  } else if (value.IsSequence()) {
    for (const YAML::Node& item : value) {
      if (!item.IsScalar())
        return absl::InvalidArgumentError(absl::StrCat(key, ": a list of plain values is wanted"));
      absl::StrAppend(&text, text.empty() ? "" : ",", item.Scalar());
    }
  } else {
    return absl::InvalidArgumentError(absl::StrCat(key, ": a value or a list is wanted"));
  }
  sources[key] = "file";
  if (key == "model") {
    if (!value.IsScalar()) return absl::InvalidArgumentError("model: one model is wanted, no list");
    config.model = text;
    return absl::OkStatus();
  }
  const SettingRow* row = FindSetting(key);
  if (row == nullptr) return absl::InvalidArgumentError(absl::StrCat("unknown key \"", key, "\""));
  return Assign(*row, text, config);
}

absl::Status TakeFile(const std::string& path, Config& config, Sources& sources) {
  const std::string name = BaseName(path);
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("config: ", path, ": is not a readable file"));
  }
  if (info.st_size > kMaxConfigFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("config: ", name, " is larger than ", kMaxConfigFileBytes, " bytes"));
  }
  YAML::Node root;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAllFromFile(path);
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("config: ", name, ": one document is wanted, there are ", documents.size()));
    }
    if (documents.empty()) return absl::OkStatus();
    root = documents.front();
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("config: ", name, ": line ", error.mark.line + 1, ": ", error.msg));
  }
  if (root.IsNull()) return absl::OkStatus();
  if (!root.IsMap())
    return absl::InvalidArgumentError(
        absl::StrCat("config: ", name, ": a map of settings is wanted"));
  std::map<std::string, bool> seen;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar())
      return absl::InvalidArgumentError(absl::StrCat("config: ", name, ": keys are plain words"));
    const std::string key = entry.first.Scalar();
    if (!seen.emplace(key, true).second) {
      return absl::InvalidArgumentError(absl::StrCat("config: ", name, ": ", key, " stands twice"));
    }
    const absl::Status status = TakeYamlEntry(key, entry.second, config, sources);
    if (!status.ok())
      return absl::InvalidArgumentError(absl::StrCat("config: ", name, ": ", status.message()));
  }
  return absl::OkStatus();
}

struct Flag {
  std::string name;
  std::optional<std::string> value;
};

Flag SplitFlag(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return {argument.substr(2), std::nullopt};
  return {argument.substr(2, equals - 2), argument.substr(equals + 1)};
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Which of two a person meant cannot be known.
absl::Status CheckOnce(const Pairs& pairs) {
  std::set<std::string> seen;
  for (const auto& [name, value] : pairs) {
    if (!seen.insert(name).second)
      return absl::InvalidArgumentError(absl::StrCat("--", name, " stands twice"));
  }
  return absl::OkStatus();
}

absl::Status TakeModel(const std::string& model, Pairs& pairs) {
  for (const auto& [name, value] : pairs) {
    if (name != "model") continue;
    if (value == model) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("one model per process: --model says \"", value,
                                                   "\", the command line also \"", model, "\""));
  }
  pairs.emplace_back("model", model);
  return absl::OkStatus();
}

/// The command line as (name, value) pairs, each name once; the positional MODEL as name "model".
absl::StatusOr<Pairs> ReadArguments(const std::vector<std::string>& arguments) {
  Pairs pairs;
  std::optional<std::string> model;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.rfind("--", 0) != 0) {
      if (model)
        return absl::InvalidArgumentError(
            absl::StrCat("one model per process; \"", argument, "\" is a second"));
      model = argument;
      continue;
    }
    Flag flag = SplitFlag(argument);
    if (!flag.value && flag.name.rfind("no-", 0) == 0) {
      const SettingRow* negated = FindSetting(flag.name.substr(3));
      if (negated != nullptr && IsBool(*negated)) {
        pairs.emplace_back(flag.name.substr(3), "false");
        continue;
      }
    }
    const SettingRow* row = FindSetting(flag.name);
    if (row == nullptr && flag.name != "config" && flag.name != "model") {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag --", flag.name, "; see modu serve --help"));
    }
    if (!flag.value && row != nullptr && IsBool(*row)) {
      const bool apart =
          i + 1 < arguments.size() && (arguments[i + 1] == "true" || arguments[i + 1] == "false");
      flag.value = apart ? arguments[++i] : "true";
    }
    if (!flag.value) {
      if (i + 1 == arguments.size())
        return absl::InvalidArgumentError(absl::StrCat("--", flag.name, " wants a value"));
      flag.value = arguments[++i];
    }
    pairs.emplace_back(flag.name, *flag.value);
  }
  if (const absl::Status once = CheckOnce(pairs); !once.ok()) return once;
  if (model) {
    if (const absl::Status taken = TakeModel(*model, pairs); !taken.ok()) return taken;
  }
  return pairs;
}

}  // namespace

absl::StatusOr<Config> LoadConfig(const std::vector<std::string>& arguments) {
  const auto pairs = ReadArguments(arguments);
  if (!pairs.ok()) return pairs.status();

  Config config;
  Sources sources;
  for (const auto& [name, value] : *pairs) {
    if (name != "config") continue;
    const absl::Status status = TakeFile(value, config, sources);
    if (!status.ok()) return status;
  }
  for (const auto& [name, value] : *pairs) {
    if (name == "config") continue;
    sources[name] = "flag";
    if (name == "model") {
      config.model = value;
      continue;
    }
    const absl::Status status = Assign(*FindSetting(name), value, config);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("--", status.message()));
  }
  const absl::Status sound = CheckBeyondBounds(config);
  if (!sound.ok()) return sound;

  const auto source_of = [&](const std::string& name) {
    const auto found = sources.find(name);
    return found == sources.end() ? std::string("default") : found->second;
  };
  config.settings.push_back({"model", config.model, source_of("model")});
  for (const SettingRow& row : Settings()) {
    config.settings.push_back({row.name, Show(row, config), source_of(row.name)});
  }
  return config;
}

std::string HelpText() {
  const Config defaults;
  std::string text =
      "usage: modu serve [MODEL] [--config FILE] [flags]\n\n"
      "MODEL: a .gguf file, a folder with safetensors, a catalogue name, org/name or a URL; "
      "default: the small model that\n"
      "`modu pull` fetches. FILE: YAML with the flags' names as keys; flags win over it.\n"
      "A flag is written --NAME VALUE or --NAME=VALUE; a switch alone is true, --no-NAME is "
      "false.\n";
  std::string group;
  for (const SettingRow& row : Settings()) {
    if (group != row.group) {
      group = row.group;
      absl::StrAppend(&text, "\n", group, "\n");
    }
    const std::string value = Show(row, defaults);
    absl::StrAppendFormat(&text, "  --%-28s %s%s\n", row.name, row.help,
                          value.empty() ? "" : absl::StrCat(" [", value, "]"));
  }
  return text;
}

}  // namespace modu::config
