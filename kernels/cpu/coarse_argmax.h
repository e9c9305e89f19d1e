// The largest product of a row with an output head by its upper bits (coarse_head.h): coarse
// products of all strips first, then whole ones of those strips that may still hold it.
#pragma once
#include <algorithm>

#include "kernels/ops.h"

namespace modu::kernels::cpu {

class CpuDevice;

/// Whether coarse products are to be tried. Of a text few rows leave many strips, as a rule one by
/// one: so a pause follows from the second in a row on, of 1, 3, 7 and then 15 calls.
class CoarsePauses {
 public:
  bool Tries() {
    if (left_ == 0) return true;
    --left_;
    return false;
  }
  void Tried(bool paid) {
    left_ = paid ? 0 : next_;
    next_ = paid ? 0 : std::min(2 * next_ + 1, kMost);
  }

 private:
  static constexpr int kMost = 15;
  int left_ = 0, next_ = 0;
};

/// As OpTable::argmax. False, having written nothing, where the weight has no coarse head, the rows
/// are many, two rows' products lie too near to each other, coarse products pause, or products may
/// not be finite.
bool ArgmaxByCoarse(CpuDevice& cpu, const ArgmaxParams& p);

}  // namespace modu::kernels::cpu
