// One decoder's hyperparameters, the same whether they came from GGUF metadata or config.json.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/request/sampling_params.h"

namespace modu::engine {

struct RopeConfig {
  float theta = 10000.0f;
  int32_t rotary_dim = 0;
  bool interleaved = false;
  std::vector<float> inv_freq;   // [rotary_dim/2], scaling (linear, llama3, yarn) already applied
  float attention_scale = 1.0f;  // YaRN
};

/// A model's own generation_config.json; absent fields stay unset (NaN, -1) and OpenAI's defaults
/// apply.
struct GenerationDefaults {
  float temperature = -1, top_p = -1, min_p = -1, repetition_penalty = -1;
  int32_t top_k = -1, max_new_tokens = -1;
};

struct ModelConfig {
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3"
  std::string name;          // as the file says, for listings
  int32_t hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int32_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int32_t vocab_size = 0;  // rows of the output head
  int32_t tokenizer_vocab_size =
      0;                     // ids the tokenizer has; above them logits are masked. 0: no tokenizer
  int32_t max_position = 0;  // context length
  int32_t sliding_window = 0;          // of every layer; 0: full attention
  std::vector<int32_t> layer_windows;  // where layers differ: each one's, 0: full; else empty
  bool tie_embeddings = false, qkv_bias = false, output_bias = false, qk_norm = false;
  bool mlp_bias = false;
  float norm_eps = 1e-5f;
  RopeConfig rope;
  int32_t bos_id = -1, pad_id = -1;
  std::vector<int32_t> eos_ids;
  GenerationDefaults generation;

  int32_t window(int layer) const {
    return layer_windows.empty() ? sliding_window : layer_windows[static_cast<size_t>(layer)];
  }
};

}  // namespace modu::engine
