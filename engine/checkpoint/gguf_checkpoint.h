// A GGUF file as a Checkpoint. Llama-architecture files have the rows of q and k in the order that
// interleaved RoPE wants; Read puts them back into Hugging Face's order (rows move whole, so
// quantised ones do too).
#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/input_file.h"

namespace modu::engine {

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(InputFile file);
absl::StatusOr<TokenizerFiles> ReadGgufTokenizer(const InputFile& file);

}  // namespace modu::engine
