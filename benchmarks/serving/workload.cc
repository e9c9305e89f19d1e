#include "benchmarks/serving/workload.h"

#include <random>

#include "nlohmann/json.hpp"

namespace modu::benchmark {

std::vector<PlannedRequest> PlanRequests(const WorkloadOptions& options) {
  std::mt19937_64 random(options.seed);
  std::uniform_int_distribution<int> token(options.min_token_id, options.max_token_id);
  std::uniform_int_distribution<int> prompt_length(options.prompt_tokens.minimum,
                                                   options.prompt_tokens.maximum);
  std::uniform_int_distribution<int> output_length(options.output_tokens.minimum,
                                                   options.output_tokens.maximum);
  std::exponential_distribution<double> gap(options.rate_per_s > 0 ? options.rate_per_s : 1.0);

  std::vector<int> prefix(options.shared_prefix_tokens);
  for (int& id : prefix) id = token(random);
  std::vector<PlannedRequest> requests(options.num_requests);
  double arrival_s = 0;
  for (PlannedRequest& request : requests) {
    request.prompt_ids = prefix;
    const int length = prompt_length(random);
    while (static_cast<int>(request.prompt_ids.size()) < length)
      request.prompt_ids.push_back(token(random));
    request.max_tokens = output_length(random);
    if (options.rate_per_s > 0) request.arrival_s = arrival_s += gap(random);
  }
  return requests;
}

std::string CompletionBody(const PlannedRequest& request, const std::string& model,
                           const DrawOptions& draw, bool every_token) {
  nlohmann::json body = {{"prompt", request.prompt_ids},
                         {"max_tokens", request.max_tokens},
                         {"temperature", draw.temperature},
                         {"ignore_eos", true},
                         {"stream", true},
                         {"stream_options", {{"include_usage", true}}}};
  if (!model.empty()) body["model"] = model;
  if (draw.top_p != 0) body["top_p"] = draw.top_p;
  if (draw.min_p != 0) body["min_p"] = draw.min_p;
  if (draw.top_k != 0) body["top_k"] = draw.top_k;
  if (every_token) body["return_token_ids"] = true;
  return body.dump();
}

}  // namespace modu::benchmark
