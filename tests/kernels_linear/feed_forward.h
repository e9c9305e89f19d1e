// A feed-forward block of random weights and inputs through the op table, for tests that compare
// devices.
#pragma once
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::tests {

struct FeedForward {
  kernels::DType dtype;
  int width, features, outputs;
};

/// down(silu(gate x) * (up x)) of the first `tokens` rows, by the ops of `device`:
/// [tokens][outputs].
inline std::vector<float> Run(kernels::Device& device, const FeedForward& block, int tokens) {
  const RandomMatrix gate(block.dtype, block.features, block.width, 1),
      up(block.dtype, block.features, block.width, 2),
      down(block.dtype, block.outputs, block.features, 3);
  const kernels::WeightSource pair[] = {gate.source(), up.source()}, next[] = {down.source()};
  const auto gated = device.Pack(pair, kernels::WeightUse::kGatedLinear).value();
  const auto linear = device.Pack(next, kernels::WeightUse::kLinear).value();
  Random random(4);
  std::vector<float> hidden(static_cast<size_t>(tokens) * static_cast<size_t>(block.width));
  for (float& x : hidden) x = random.Gaussian();
  const auto in = device.Allocate(device.PreparedBytes(*gated, tokens));
  const auto middle = device.Allocate(device.PreparedBytes(*linear, tokens));
  std::vector<float> out(static_cast<size_t>(tokens) * static_cast<size_t>(block.outputs));
  device.ops().norm(device, {.num_tokens = tokens,
                             .width = block.width,
                             .hidden = hidden.data(),
                             .rows = nullptr,
                             .weight = nullptr,
                             .eps = 0,
                             .consumer = gated.get(),
                             .out = {in->data()}});
  device.ops().gated_linear(device, {.num_tokens = tokens,
                                     .in = {in->data()},
                                     .weight = gated.get(),
                                     .activation = kernels::Activation::kSilu,
                                     .consumer = linear.get(),
                                     .out = {middle->data()}});
  device.ops().linear(device, {.num_tokens = tokens,
                               .in = {middle->data()},
                               .weight = linear.get(),
                               .bias = nullptr,
                               .accumulate = false,
                               .out = out.data(),
                               .out_stride = block.outputs});
  return out;
}

}  // namespace modu::tests
