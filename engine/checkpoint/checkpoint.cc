#include "engine/checkpoint/checkpoint.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/folder_checkpoint.h"
#include "engine/checkpoint/gguf_checkpoint.h"
#include "engine/checkpoint/input_file.h"
#include "engine/checkpoint/tokenizer_material.h"

namespace modu::engine {
namespace fs = std::filesystem;

namespace {

bool IsFolder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

absl::StatusOr<bool> IsGguf(const InputFile& file) {
  char magic[4] = {};
  if (file.size() < sizeof(magic)) return false;
  if (absl::Status status = file.ReadAt(0, magic, sizeof(magic)); !status.ok()) return status;
  return std::string(magic, 4) == "GGUF";
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path) {
  auto paths = GgufParts(path);
  if (!paths.ok()) return paths.status();
  std::vector<InputFile> parts;
  for (const std::string& part : *paths) {
    auto file = InputFile::Open(part);
    if (!file.ok()) return file.status();
    parts.push_back(*std::move(file));
  }
  return OpenGgufCheckpoint(std::move(parts));
}

}  // namespace

const TensorInfo* Checkpoint::Find(const std::string& name) const {
  for (const TensorInfo& info : tensors()) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path) {
  if (IsFolder(path)) {
    auto gguf = OnlyGgufIn(path);
    if (!gguf.ok()) return gguf.status();
    if (gguf->empty()) return OpenFolderCheckpoint(path);
    return OpenGguf(*gguf);
  }
  return OpenGguf(path);
}

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& path) {
  if (IsFolder(path)) {
    std::error_code error;
    if (!fs::exists(fs::path(path) / "tokenizer.json", error)) {
      auto gguf = OnlyGgufIn(path);
      if (!gguf.ok()) return gguf.status();
      if (!gguf->empty()) return ReadTokenizerFiles(*gguf);
    }
    return ReadFolderTokenizer(path);
  }
  const auto paths = GgufParts(path);  // a later part has no tokenizer
  if (!paths.ok()) return paths.status();
  auto file = InputFile::Open(paths->front());
  if (!file.ok()) return file.status();
  auto is_gguf = IsGguf(*file);
  if (!is_gguf.ok()) return is_gguf.status();
  if (*is_gguf) return ReadGgufTokenizer(*file);
  auto text = ReadTextFile(path, kMaxTokenizerJsonBytes);
  if (!text.ok()) return text.status();
  TokenizerFiles files;
  files.tokenizer_json = *std::move(text);
  return files;
}

}  // namespace modu::engine
