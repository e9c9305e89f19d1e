// The transformer once more, in double and without caches, batches or kernels: an oracle for what
// the golden models do not cover (biases everywhere, windows that differ by layer). Its own check
// is that it agrees with the engine on models that do agree with Hugging Face's answers.
#pragma once
#include <cstdint>
#include <vector>

#include "tests/checkpoint/model_writers.h"

namespace modu::tests {

/// Log probabilities [ids.size()][vocab]. windows: one for each layer, 0: full attention.
std::vector<std::vector<double>> DoubleLogprobs(const SmallModel& model,
                                                const std::vector<int32_t>& ids,
                                                const std::vector<int>& windows);

}  // namespace modu::tests
