// A model on disk, GGUF or a safetensors folder, behind one face: config, named tensors, and the
// tokenizer's material as the file has it. Sizes are checked against the file before anything is
// read; errors name file, key and offset (file names without their folder). Tensors are read on
// demand, so the file can be closed once weights are packed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/model_config.h"
#include "kernels/dtype.h"

namespace modu::engine {

struct TensorInfo {
  std::string
      name;  // Hugging Face spelling, e.g. "model.layers.0.self_attn.q_proj.weight", for both kinds
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;  // outermost first: [rows, cols]
  int64_t bytes = 0;
};

/// Tokenizer material. For GGUF the metadata arrays; for a folder the file texts, verbatim, empty
/// where absent.
struct TokenizerFiles {
  bool from_gguf = false;
  // GGUF
  std::string model, pre;  // tokenizer.ggml.model ("gpt2", "llama"), tokenizer.ggml.pre
  std::vector<std::string> tokens, merges;
  std::vector<float> scores;
  std::vector<int32_t> token_types;  // 1 normal 2 unknown 3 control 4 user defined 5 unused 6 byte
  int32_t bos_id = -1, eos_id = -1, unk_id = -1, pad_id = -1;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  // both
  std::string chat_template;
  // folder
  std::string tokenizer_json, tokenizer_config_json, special_tokens_map_json;
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerFiles& tokenizer_files() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  virtual std::string format() const = 0;  // "GGUF v3", "safetensors"
  /// Reads the whole tensor; `out` has info.bytes bytes.
  virtual absl::Status Read(const TensorInfo& info, std::byte* out) const = 0;

  const TensorInfo* Find(const std::string& name) const;
};

/// A .gguf file, or a folder with config.json and *.safetensors (or one .gguf).
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path);
/// Only what a tokenizer needs: also from tokenizer.json alone, or from a folder without weights or
/// config.
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& path);

}  // namespace modu::engine
