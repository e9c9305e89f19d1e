#include "tests/sampling/exact_distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace modu::engine {

std::vector<double> ExactDistribution(const std::vector<float>& logits,
                                      const SamplingParams& params,
                                      const std::vector<int32_t>& history, int num_output,
                                      const std::vector<int32_t>& masked) {
  std::vector<double> x(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias) x[id] += bias;
  std::map<int32_t, int> seen, output;
  for (size_t i = 0; i < history.size(); ++i) {
    ++seen[history[i]];
    if (i + num_output >= history.size()) ++output[history[i]];
  }
  for (const auto& [id, count] : seen) {
    x[id] = x[id] > 0 ? x[id] / params.repetition_penalty : x[id] * params.repetition_penalty;
  }
  for (const auto& [id, count] : output)
    x[id] -= params.presence_penalty + params.frequency_penalty * count;
  for (int32_t id : masked) x[id] = -std::numeric_limits<double>::infinity();
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
  std::vector<double> p(x.size(), 0.0);
  if (params.temperature < 1e-5f) {
    p[order[0]] = 1;
    return p;
  }
  const double max = x[order[0]];
  for (size_t i = 0; i < x.size(); ++i) p[i] = std::exp((x[i] - max) / params.temperature);
  for (double& w : p) {
    if (w < params.min_p) w = 0;
  }
  if (params.top_k > 0) {
    for (size_t rank = params.top_k; rank < order.size(); ++rank) p[order[rank]] = 0;
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  if (params.top_p < 1) {
    double mass = 0;
    for (int id : order) {
      if (mass >= params.top_p * total) {
        p[id] = 0;
      } else {
        mass += p[id];
      }
    }
  }
  const double kept = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& w : p) w /= kept;
  return p;
}

double ChiSquareTail(double x, int degrees) {
  const double k = degrees;
  const double z = (std::cbrt(x / k) - (1 - 2 / (9 * k))) / std::sqrt(2 / (9 * k));
  return 0.5 * std::erfc(z / std::sqrt(2.0));
}

}  // namespace modu::engine
