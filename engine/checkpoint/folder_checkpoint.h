// A Hugging Face folder as a Checkpoint: config.json, generation_config.json, one .safetensors file
// or shards with model.safetensors.index.json, tokenizer files. Links to files are followed (hub
// caches are made of them); names inside the index may not leave the folder.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace modu::engine {

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolderCheckpoint(const std::string& folder);

/// Path of the .gguf file of a folder that has no config.json; "" where it has none; an error where
/// it has several.
absl::StatusOr<std::string> OnlyGgufIn(const std::string& folder);

}  // namespace modu::engine
