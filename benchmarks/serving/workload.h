// What a run sends: prompts of token ids (no tokenizer needed, and every server gets the same
// work), output lengths, and when. The same seed plans the same requests.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace modu::benchmark {

/// Inclusive bounds; equal: fixed.
struct LengthRange {
  int minimum = 128, maximum = 128;
};

struct WorkloadOptions {
  int num_requests = 16;
  LengthRange prompt_tokens, output_tokens;
  int shared_prefix_tokens = 0;  // of each prompt, equal in all requests
  int min_token_id = 1000, max_token_id = 40000;
  double rate_per_s = 0;  // > 0: Poisson arrivals; 0: closed loop
  uint64_t seed = 1;
};

struct PlannedRequest {
  std::vector<int> prompt_ids;
  int max_tokens = 0;
  double arrival_s = 0;  // Poisson only
};

std::vector<PlannedRequest> PlanRequests(const WorkloadOptions& options);

/// How tokens are drawn; what is 0 is not sent, but for the temperature (0: greedy).
struct DrawOptions {
  double temperature = 0, top_p = 0, min_p = 0;
  int top_k = 0;
};

/// The JSON body of a streaming /v1/completions call: ignore_eos, usage asked for.
std::string CompletionBody(const PlannedRequest& request, const std::string& model,
                           const DrawOptions& draw, bool every_token);

}  // namespace modu::benchmark
