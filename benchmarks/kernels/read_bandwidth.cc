#include "benchmarks/kernels/read_bandwidth.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "benchmarks/kernels/machine_peak.h"

namespace modu::benchmarks {

ReadBandwidth MeasureReadBandwidth(kernels::Device& device, size_t bytes, int passes) {
  const auto buffer = device.Allocate(bytes);
  struct Share {
    const std::byte* data;
    size_t bytes;
  } share{buffer->data(), bytes / static_cast<size_t>(device.num_threads())};
  std::vector<double> seconds;
  for (int pass = 0; pass <= passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    device.ParallelFor(
        device.num_threads(),
        [](void* context, int part) {
          const auto* s = static_cast<Share*>(context);
          ReadOnce(s->data + static_cast<size_t>(part) * s->bytes, s->bytes);
        },
        &share);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (pass > 0) seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const auto size = static_cast<double>(bytes);
  return {size / seconds.front(), size / seconds[seconds.size() / 2]};
}

}  // namespace modu::benchmarks
