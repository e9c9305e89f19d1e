// What a request asks of the sampler. Plain values, already validated by the door (server/api); the
// engine CHECKs.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace modu::engine {

struct SamplingParams {
  float temperature = 1.0f;         // [0, 2]; 0 (and anything below 1e-5) is greedy
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // > 0, over prompt and output
  float presence_penalty = 0.0f;    // [-2, 2], over output
  float frequency_penalty = 0.0f;   // [-2, 2], over output
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, [-100, 100]
  uint64_t seed = 0;        // the door draws one when the request has none; choice n adds n
  int32_t max_tokens = 16;  // 0: score the prompt only
  int32_t min_tokens = 0;   // EOS and stop ids are masked until then
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;  // beside the model's own EOS ids
  int32_t top_logprobs = -1;            // -1: no logprobs; k: of the sampled token and the k best
  int32_t prompt_logprobs = -1;         // the same for prompt tokens (echo)
};

}  // namespace modu::engine
