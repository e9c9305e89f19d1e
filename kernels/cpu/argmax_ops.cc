// The largest product of each row with an output head.
#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/coarse_argmax.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/strip_products.h"

namespace modu::kernels::cpu {
namespace {

/// By all products, strip by strip: none is written, and none is read again.
bool ArgmaxOfAll(CpuDevice& cpu, const ArgmaxParams& p) {
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  if (weight.prepared().kind == PreparedKind::kBf16Tiles) return false;
  // Each worker's own, a line apart.
  const auto stride = static_cast<size_t>((p.num_tokens + 15) / 16 * 16 + 16);
  const size_t all = stride * static_cast<size_t>(cpu.num_threads());
  std::vector<float> values(all, -std::numeric_limits<float>::infinity());
  std::vector<int32_t> ids(all, 0);
  std::atomic<bool> finite{true};
  const RowBlocks blocks = WholeRows(cpu, weight, p.num_tokens);
  ForBlocks(
      cpu, (p.limit + kStrip - 1) / kStrip, p.num_tokens, blocks, [] { return 0; },
      [&](int, const BlockUnit& unit) {
        alignas(64) float tile[kTileRows * kStrip];
        const Strip& strip = weight.strips()[static_cast<size_t>(unit.strip)];
        ComputeStrip(kernels, weight, strip, weight.prepared().Row(p.in, unit.row), unit.rows,
                     AheadOf(kernels, weight, strip, unit, blocks), tile);
        const size_t at = stride * static_cast<size_t>(unit.worker) + static_cast<size_t>(unit.row);
        const bool good = kernels.f32.largest({
            .tile = tile,
            .rows = unit.rows,
            .columns = std::min(strip.columns, p.limit - strip.column),
            .scales = strip.scales,
            .first_id = strip.column,
            .values = values.data() + at,
            .ids = ids.data() + at,
        });
        if (!good) finite.store(false, std::memory_order_relaxed);
      });
  if (!finite.load(std::memory_order_relaxed)) return false;
  for (size_t t = 0; t < static_cast<size_t>(p.num_tokens); ++t) {
    float value = values[t];
    p.ids[t] = ids[t];
    for (size_t at = t + stride; at < all; at += stride) {
      if (values[at] < value || (values[at] == value && ids[at] > p.ids[t])) continue;
      value = values[at];
      p.ids[t] = ids[at];
    }
  }
  return true;
}

}  // namespace

bool Argmax(Device& device, const ArgmaxParams& p) {
  CpuDevice& cpu = Cpu(device);
  const CpuWeight& weight = Weight(p.weight);
  MODU_CHECK(p.num_tokens > 0 && p.limit > 0 && p.limit <= p.weight->rows());
  const int last = (p.limit - 1) / kStrip;  // one part: strips in the order of their ids
  MODU_CHECK(weight.strips()[static_cast<size_t>(last)].column == last * kStrip);
  FetchFollowing(cpu, weight, cpu.num_threads());
  return ArgmaxByCoarse(cpu, p) || ArgmaxOfAll(cpu, p);
}

}  // namespace modu::kernels::cpu
