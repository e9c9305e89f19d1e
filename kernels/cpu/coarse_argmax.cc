#include "kernels/cpu/coarse_argmax.h"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/coarse_head.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/strip_units.h"

namespace modu::kernels::cpu {
namespace {

/// Coarse products and one in so many strips, for whichever row, take as long as all products (5/8
/// and 3/8 of the bytes): where they leave more (logits near to each other), they did not pay.
constexpr int kOneIn = 3;

struct Largest {
  float value = -std::numeric_limits<float>::infinity();
  int32_t id = std::numeric_limits<int32_t>::max();

  void Meet(const Largest& other) {
    if (other.value > value || (other.value == value && other.id < id)) *this = other;
  }
};

/// A strip of whole codes that may hold a row's largest product.
struct WholeStrip {
  int row;
  int strip;
};

/// The largest product of a row with a strip; `next` is read after it, or null.
Largest LargestOf(const LinearKernels& kernels, const CpuWeight& weight, const Strip& strip,
                  const Strip* next, const std::byte* in, int limit) {
  alignas(64) float tile[kStrip];
  const Ahead ahead = next == nullptr ? Ahead() : Ahead{.data = next->data, .bytes = next->bytes};
  kernels.int8.strip[static_cast<int>(strip.format)](strip.data, weight.prepared(), in, 1, ahead,
                                                     tile);
  Largest largest;
  kernels.f32.largest({.tile = tile,
                       .rows = 1,
                       .columns = std::min(strip.columns, limit - strip.column),
                       .scales = nullptr,
                       .first_id = strip.column,
                       .values = &largest.value,
                       .ids = &largest.id});
  return largest;
}

}  // namespace

bool ArgmaxByCoarse(CpuDevice& cpu, const ArgmaxParams& p) {
  const CpuWeight& weight = Weight(p.weight);
  const CoarseHead* const head = weight.coarse_head();
  if (head == nullptr || p.num_tokens > kMostCoarseRows || !cpu.coarse_pauses().Tries()) {
    return false;
  }
  const LinearKernels& kernels = cpu.linear_kernels();
  const std::span<const Strip> all = weight.strips();
  const PreparedLayout& layout = weight.prepared();
  const int strips = (p.limit + kStrip - 1) / kStrip;  // those that hold ids below the limit

  const int64_t groups = 2 * PairsOf(layout.groups());
  std::vector<CoarseGroup> of_rows(static_cast<size_t>(p.num_tokens * groups));
  CoarseRow rows[kMostCoarseRows];
  for (int r = 0; r < p.num_tokens; ++r) {
    if (!head->Describe(layout, layout.Row(p.in, r), of_rows.data() + r * groups, &rows[r])) {
      return false;
    }
  }
  const auto results = static_cast<size_t>(p.num_tokens) * static_cast<size_t>(strips);
  auto* const best = reinterpret_cast<float*>(cpu.SharedScratch(2 * results * sizeof(float)));
  float* const upper = best + results;
  ForStrips(
      cpu.pool(), strips, 1, 1, [] { return 0; },
      [&](int, int strip, int, int, int) {
        kernels.coarse(head->strip(strip), layout.groups(),
                       {rows, static_cast<size_t>(p.num_tokens)},
                       {best + strip, upper + strip, strips});
      });

  // A product that is there bounds the largest from below: one of the strip that promises most.
  int first[kMostCoarseRows];
  Largest largest[kMostCoarseRows];
  cpu.pool().Run(p.num_tokens, 1, [&](int begin, int end, int) {
    for (int r = begin; r < end; ++r) {
      const float* const of_row = best + int64_t{r} * strips;
      first[r] = static_cast<int>(std::max_element(of_row, of_row + strips) - of_row);
      largest[r] = LargestOf(kernels, weight, all[static_cast<size_t>(first[r])], nullptr,
                             rows[r].in, p.limit);
    }
  });
  std::vector<WholeStrip> left;
  for (int r = 0; r < p.num_tokens; ++r) {
    const float* const above = upper + int64_t{r} * strips;
    for (int strip = 0; strip < strips; ++strip) {
      if (above[strip] >= largest[r].value && strip != first[r]) left.push_back({r, strip});
    }
  }
  cpu.coarse_pauses().Tried(left.size() <= static_cast<size_t>(strips / kOneIn));
  if (left.size() > static_cast<size_t>(strips)) return false;  // of two rows: all are quicker
  std::vector<Largest> found(left.size());
  cpu.pool().Run(static_cast<int>(left.size()), 1, [&](int first, int last, int) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      const auto strip_of = [&](size_t at) { return &all[static_cast<size_t>(left[at].strip)]; };
      found[i] =
          LargestOf(kernels, weight, *strip_of(i), i + 1 < left.size() ? strip_of(i + 1) : nullptr,
                    rows[left[i].row].in, p.limit);
    }
  });
  for (size_t i = 0; i < left.size(); ++i) {
    largest[left[i].row].Meet(found[i]);
  }
  for (int r = 0; r < p.num_tokens; ++r) p.ids[r] = largest[r].id;
  return true;
}

}  // namespace modu::kernels::cpu
