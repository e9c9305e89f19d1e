// The matrix products of weights that multiply with kBf16Tiles activations: the tile kernels' side
// of linear_ops.cc.
#pragma once
#include "kernels/cpu/cpu_device.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

void LinearByTiles(CpuDevice& cpu, const LinearParams& p);
void GatedLinearByTiles(CpuDevice& cpu, const GatedLinearParams& p);

}  // namespace modu::kernels::cpu
