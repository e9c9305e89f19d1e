// RoPE frequencies with their scaling applied, once at load. Sources: Su et al., RoFormer; the
// llama3 rule of Llama 3.1; Peng et al., YaRN, as Hugging Face's modeling_rope_utils computes it.
// Pure functions, any thread.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/checkpoint/model_config.h"

namespace modu::engine {

struct RopeScaling {
  std::string type = "default";  // default, linear, dynamic, llama3, yarn
  double factor = 1.0;
  double original_max_position = 0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;
  std::optional<double> attention_factor, mscale, mscale_all_dim;
};

/// Fills rope->inv_freq and rope->attention_scale from theta, rotary_dim and `scaling`.
/// dynamic: the frequencies up to the trained length, which is also where the context ends here.
/// Errors name the field (rope_scaling.*).
absl::Status ApplyRopeScaling(const RopeScaling& scaling, RopeConfig* rope);

}  // namespace modu::engine
