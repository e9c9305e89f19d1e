// The end of a gated linear where gate and up lie row by row.
#pragma once
#include "kernels/cpu/linear_kernels.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

/// Rows [row, row + rows) of p.out for the features of two strips, from their products
/// [rows][32], which are overwritten.
void WriteGatedRows(const LinearKernels& kernels, const GatedLinearParams& p,
                    const Strip& gate_strip, const Strip& up_strip, int row, int rows, float* gate,
                    float* up);

}  // namespace modu::kernels::cpu
