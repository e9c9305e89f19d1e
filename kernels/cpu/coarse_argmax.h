// The largest product of a row with an output head by its upper bits (coarse_head.h): coarse
// products of all strips first, then whole ones of those strips that may still hold it.
#pragma once
#include "kernels/ops.h"

namespace modu::kernels::cpu {

class CpuDevice;

/// As OpTable::argmax. False, having written nothing, where the weight has no coarse head, the rows
/// are many, their products lie too near to each other (or did shortly before), or may not be
/// finite.
bool ArgmaxByCoarse(CpuDevice& cpu, const ArgmaxParams& p);

}  // namespace modu::kernels::cpu
