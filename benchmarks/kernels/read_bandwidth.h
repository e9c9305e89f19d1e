// What all workers of a device read together: the floor of steps that weights bound.
#pragma once
#include <cstddef>

#include "kernels/device.h"

namespace modu::benchmarks {

struct ReadBandwidth {
  double best, median;  // bytes a second
};

/// Workers read their own shares of `bytes`, `passes` times after a first one. Needs AVX2.
ReadBandwidth MeasureReadBandwidth(kernels::Device& device, size_t bytes, int passes);

}  // namespace modu::benchmarks
