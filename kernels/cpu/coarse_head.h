// The upper five bits of an output head's 8-bit codes, so that the largest product of a row can be
// found without reading the rest: products with them, and how far those of the whole codes can be
// from that, leave few strips that may hold it. Beside the head, which it takes 5/8 of. Made of
// kW8F16 strips in whole numbers (packed_weight.h); immutable; any thread.
//
// A weight is D * q units of its output, q its code less 128 and D the group's scale. Five bits c
// of a code stand for its eight possible codes' middle, 8c + 3.5; with r the difference,
//   sum of D q x = sum of D (8c + 3.5 - 128) x + sum of D r x
// over the row's activations x, of which the last sum is at most |D| |r| |x| in each group (Cauchy
// and Schwarz). Group by group, as some activations are many times the others' size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/cpu/coarse_kernel.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/weight_arena.h"
#include "kernels/cpu/worker_pool.h"

namespace modu::kernels::cpu {

class CoarseHead {
 public:
  /// Of `strips`, all of kW8F16 in whole numbers. Null where an output's unit is not finite.
  /// Fails as the arena does.
  static absl::StatusOr<std::unique_ptr<CoarseHead>> Create(std::span<const Strip> strips,
                                                            const PreparedLayout& layout,
                                                            WorkerPool& pool, WeightArena& arena);

  const std::byte* strip(int64_t index) const { return memory_.data + index * strip_bytes_; }
  int64_t bytes() const { return bytes_; }

  /// Writes [2 * pairs] to `groups` and what a row is. False where products with it may be no
  /// finite numbers.
  bool Describe(const PreparedLayout& layout, const std::byte* in, CoarseGroup* groups,
                CoarseRow* row) const;

 private:
  CoarseHead() = default;

  WeightArena::Piece memory_;
  int64_t strip_bytes_ = 0, bytes_ = 0;
  float most_units_ = 0;  // the largest sum of an output's units over its chunks
};

}  // namespace modu::kernels::cpu
