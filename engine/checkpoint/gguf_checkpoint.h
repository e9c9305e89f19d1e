// A GGUF file as a Checkpoint. Llama-architecture files have the rows of q and k in the order that
// interleaved RoPE wants; Read puts them back into Hugging Face's order (rows move whole, so
// quantised ones do too).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/input_file.h"

namespace modu::engine {

/// parts: all files of one model in their order, mostly one; the first has the metadata.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(std::vector<InputFile> parts);
/// The files of the model that `path` is a part of: itself, or where its name ends like
/// -00002-of-00003.gguf all three.
absl::StatusOr<std::vector<std::string>> GgufParts(const std::string& path);
absl::StatusOr<TokenizerFiles> ReadGgufTokenizer(const InputFile& file);

}  // namespace modu::engine
