#include "kernels/cpu/gated_rows.h"

#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu {
namespace {

/// Scales and biases of a gated tile; few models have such biases, so this is no kernel.
void ScaleAndAdd(const Strip& strip, int rows, const float* bias, float* tile) {
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < strip.columns; ++c) {
      const float value = tile[r * kStrip + c];
      tile[r * kStrip + c] = (strip.scales == nullptr ? value : value * strip.scales[c]) + bias[c];
    }
  }
}

}  // namespace

void WriteGatedRows(const LinearKernels& kernels, const GatedLinearParams& p,
                    const Strip& gate_strip, const Strip& up_strip, int row, int rows, float* gate,
                    float* up) {
  const PreparedLayout& layout = LayoutOf(*p.consumer);
  const bool biased = p.bias != nullptr;
  if (biased) {
    const float* const bias = p.bias + gate_strip.column;
    ScaleAndAdd(gate_strip, rows, bias, gate);
    ScaleAndAdd(up_strip, rows, bias + layout.cols, up);
  }
  kernels.f32.gate({.gate = gate,
                    .up = up,
                    .rows = rows,
                    .gate_scales = biased ? nullptr : gate_strip.scales,
                    .up_scales = biased ? nullptr : up_strip.scales,
                    .activation = p.activation});
  if (layout.block_rows == 1) {
    return kernels.f32.prepare_rows(layout, layout.Row(p.out, row), rows, gate_strip.column,
                                    gate_strip.columns, gate, kStrip);
  }
  for (int r = 0; r < rows; ++r) {
    kernels.f32.prepare(layout, layout.Row(p.out, row + r), gate_strip.column, gate_strip.columns,
                        gate + r * kStrip);
  }
}

}  // namespace modu::kernels::cpu
