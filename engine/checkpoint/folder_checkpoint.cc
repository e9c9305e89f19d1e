#include "engine/checkpoint/folder_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/input_file.h"
#include "engine/checkpoint/json_fields.h"
#include "engine/checkpoint/safetensors_reader.h"
#include "engine/checkpoint/tensor_plan.h"
#include "engine/checkpoint/tokenizer_material.h"

namespace modu::engine {
namespace {
namespace fs = std::filesystem;

constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr size_t kMaxShards = 4096;
constexpr uint64_t kMaxIndexBytes = uint64_t{100} << 20;

struct Place {
  size_t shard = 0;
  uint64_t offset = 0;
};

class FolderCheckpoint final : public Checkpoint {
 public:
  const ModelConfig& config() const override { return config_; }
  const TokenizerFiles& tokenizer_files() const override { return tokenizer_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string format() const override { return "safetensors"; }
  absl::Status Read(const TensorInfo& info, std::byte* out) const override {
    const auto it = places_.find(info.name);
    if (it == places_.end()) return absl::NotFoundError(absl::StrCat("no tensor ", info.name));
    return shards_[it->second.shard].ReadAt(it->second.offset, out,
                                            static_cast<size_t>(info.bytes));
  }

  absl::Status AddShard(const std::string& path);
  absl::Status CheckAgainst(const std::map<std::string, std::string>& weight_map) const;
  /// A tensor that the config needs but whose type is not ours gets a message of its own.
  absl::Status CheckUnserved() const;

  ModelConfig config_;
  TokenizerFiles tokenizer_;

 private:
  std::vector<InputFile> shards_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, Place> places_;
  std::map<std::string, std::string> unserved_;  // name -> dtype
};

absl::Status FolderCheckpoint::AddShard(const std::string& path) {
  auto file = InputFile::Open(path);
  if (!file.ok()) return file.status();
  auto entries = ReadSafetensorsHeader(*file);
  if (!entries.ok()) return entries.status();
  for (SafetensorsEntry& entry : *entries) {
    if (!entry.served) {
      unserved_.emplace(entry.name, entry.dtype_name);
      continue;
    }
    if (!places_.emplace(entry.name, Place{shards_.size(), entry.offset}).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(file->name(), ": tensor ", entry.name, ": is in another shard too"));
    }
    tensors_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                        static_cast<int64_t>(entry.bytes)});
  }
  shards_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status FolderCheckpoint::CheckAgainst(
    const std::map<std::string, std::string>& weight_map) const {
  for (const auto& [tensor, shard] : weight_map) {
    const auto it = places_.find(tensor);
    if (it == places_.end() ? unserved_.count(tensor) == 0
                            : shards_[it->second.shard].name() != shard) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, ": tensor ", tensor, ": is not in ", shard));
    }
  }
  return absl::OkStatus();
}

absl::Status FolderCheckpoint::CheckUnserved() const {
  for (const ExpectedTensor& expected : ExpectedTensors(config_)) {
    const auto it = unserved_.find(expected.name);
    if (it == unserved_.end()) continue;
    return absl::UnimplementedError(
        absl::StrCat("tensor ", expected.name, ": type ", it->second, " is not supported"));
  }
  return absl::OkStatus();
}

/// weight_map of an index. Shard names must be plain names of .safetensors files.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  auto text = ReadTextFile(path, kMaxIndexBytes);
  if (!text.ok()) return text.status();
  auto json = ParseJsonObject(*text, kIndexFile);
  if (!json.ok()) return json.status();
  const auto it = json->find("weight_map");
  if (it == json->end() || !it->is_object() || it->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kIndexFile, ": weight_map: is missing or empty"));
  }
  std::map<std::string, std::string> out;
  for (const auto& [tensor, shard] : it->items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (!absl::EndsWith(name, ".safetensors") || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos || name[0] == '.') {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, ": weight_map: ", tensor.substr(0, 256),
                       ": must name a .safetensors file of the folder"));
    }
    out.emplace(tensor, name);
  }
  return out;
}

std::vector<std::string> FilesWith(const std::string& folder, const char* suffix) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, suffix) && name[0] != '.') names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status OpenShards(const std::string& folder, FolderCheckpoint* checkpoint) {
  std::error_code error;
  std::vector<std::string> names;
  std::map<std::string, std::string> weight_map;
  if (fs::exists(fs::path(folder) / kIndexFile, error)) {
    auto index = ReadIndex((fs::path(folder) / kIndexFile).string());
    if (!index.ok()) return index.status();
    weight_map = *std::move(index);
    for (const auto& [tensor, shard] : weight_map) names.push_back(shard);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  } else if (fs::exists(fs::path(folder) / "model.safetensors", error)) {
    names = {"model.safetensors"};
  } else {
    names = FilesWith(folder, ".safetensors");
  }
  if (names.empty()) return absl::NotFoundError("the folder has no .safetensors file");
  if (names.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat("the folder has ", names.size(), " shards, the limit is ", kMaxShards));
  }
  for (const std::string& name : names) {
    if (absl::Status status = checkpoint->AddShard((fs::path(folder) / name).string());
        !status.ok())
      return status;
  }
  return checkpoint->CheckAgainst(weight_map);
}

/// A name for listings: the repository of a hub cache (models--ORG--NAME/snapshots/REVISION), else
/// the folder's name.
std::string FolderName(const std::string& folder) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(folder, error);
  if (error) path = folder;
  if (path.filename().empty()) path = path.parent_path();
  const std::string grandparent = path.parent_path().parent_path().filename().string();
  if (path.parent_path().filename() != "snapshots" || !absl::StartsWith(grandparent, "models--")) {
    return path.filename().string();
  }
  const std::string name = grandparent.substr(8);
  const size_t dashes = name.find("--");
  if (dashes == std::string::npos) return name;
  return absl::StrCat(name.substr(0, dashes), "/", name.substr(dashes + 2));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolderCheckpoint(const std::string& folder) {
  auto checkpoint = std::make_unique<FolderCheckpoint>();
  auto config_json = ReadTextFile((fs::path(folder) / "config.json").string(), kMaxSmallJsonBytes);
  if (!config_json.ok()) return config_json.status();
  auto generation_json =
      ReadTextFile((fs::path(folder) / "generation_config.json").string(), kMaxSmallJsonBytes);
  if (!generation_json.ok() && !absl::IsNotFound(generation_json.status()))
    return generation_json.status();
  auto config = ConfigFromJson(*config_json, generation_json.ok() ? *generation_json : "");
  if (!config.ok()) return config.status();
  if (config->name.empty() || absl::StartsWith(config->name, "/"))
    config->name = FolderName(folder);
  if (absl::Status status = CheckConfig(*config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("config.json: ", status.message()));
  }
  auto tokenizer = ReadFolderTokenizer(folder);
  if (!tokenizer.ok()) return tokenizer.status();
  auto num_ids = CountTokenizerIds(tokenizer->tokenizer_json);
  if (!num_ids.ok()) return num_ids.status();
  config->tokenizer_vocab_size = std::min(*num_ids, config->vocab_size);
  checkpoint->config_ = *std::move(config);
  checkpoint->tokenizer_ = *std::move(tokenizer);
  if (absl::Status status = OpenShards(folder, checkpoint.get()); !status.ok()) return status;
  if (absl::Status status = checkpoint->CheckUnserved(); !status.ok()) return status;
  if (absl::Status status = CheckTensors(checkpoint->config_, checkpoint->tensors()); !status.ok())
    return status;
  return checkpoint;
}

absl::StatusOr<std::string> OnlyGgufIn(const std::string& folder) {
  std::error_code error;
  if (fs::exists(fs::path(folder) / "config.json", error)) {
    if (!FilesWith(folder, ".safetensors").empty()) return std::string();
  }
  const std::vector<std::string> names = FilesWith(folder, ".gguf");
  if (names.empty()) return std::string();
  auto parts = GgufParts(names[0]);
  if (!parts.ok()) return parts.status();
  if (names.size() > 1 && *parts != names) {
    return absl::InvalidArgumentError(
        absl::StrCat("the folder has ", names.size(), " .gguf files; name one of them"));
  }
  return (fs::path(folder) / names[0]).string();
}

}  // namespace modu::engine
