// GGUF metadata to ModelConfig and tokenizer material, and GGUF tensor names to Hugging Face's.
// Pure functions.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/gguf_reader.h"

namespace modu::engine {

/// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; unknown names come back as
/// they are.
std::string HuggingFaceName(const std::string& gguf_name);

/// `rope_factors`: values of rope_freqs.weight (llama3 scaling as divisors), empty where the file
/// has none.
absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufContents& contents,
                                           const std::vector<float>& rope_factors);

absl::StatusOr<TokenizerFiles> TokenizerFromGguf(const GgufMetadata& metadata);

}  // namespace modu::engine
