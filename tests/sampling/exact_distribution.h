// The oracle: the exact distribution of the next token, by full sorts and double arithmetic, from
// the definitions.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/request/sampling_params.h"

namespace modu::engine {

/// [V]; history is prompt plus output, its last num_output tokens output.
std::vector<double> ExactDistribution(const std::vector<float>& logits,
                                      const SamplingParams& params,
                                      const std::vector<int32_t>& history, int num_output,
                                      const std::vector<int32_t>& masked);

/// Probability that a chi-square variable of `degrees` exceeds x (Wilson and Hilferty's cube root
/// approximation).
double ChiSquareTail(double x, int degrees);

}  // namespace modu::engine
