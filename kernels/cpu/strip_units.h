// How the products of a weight's strips with rows of activations are cut into units of work.
#pragma once
#include <algorithm>

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/worker_pool.h"

namespace modu::kernels::cpu {

inline const CpuWeight& Weight(const PackedWeight* weight) {
  return static_cast<const CpuWeight&>(*weight);
}

/// The most units of a claim: few enough claims to cost nothing (each takes a cache line from the
/// other workers), enough of them to balance (the last ones are smaller).
inline int ClaimOf(int units, int workers) { return std::clamp(units / (workers * 8), 1, 16); }

/// Calls body(around, strip index, first row, rows, worker) for all strips x ranges of `most` rows.
/// Strips are the inner index, so that a worker's home range of one range of rows is one linear
/// range of weights. around: what scope() returned, which lives around the units of one claim.
template <typename Scope, typename Body>
void ForStrips(WorkerPool& pool, int strips, int num_tokens, int most, const Scope& scope,
               const Body& body) {
  const int units = strips * ((num_tokens + most - 1) / most);
  pool.Run(units, ClaimOf(units, pool.size()), [&](int first, int last, int worker) {
    auto around = scope();
    for (int unit = first; unit < last; ++unit) {
      const int row = unit / strips * most;
      body(around, unit % strips, row, std::min(most, num_tokens - row), worker);
    }
  });
}

}  // namespace modu::kernels::cpu
