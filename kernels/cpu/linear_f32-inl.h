// Products over f32 activations, for weights of any format: a group of 32 inputs is decoded once
// into an L1 panel and multiplied with all rows. Also the epilogues (store, gate, largest). Written
// once over vector-inl.h; included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/decode_group-inl.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/prepare_rows-inl.h"
#include "kernels/cpu/vector_math-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

constexpr int kVectors = kStrip / kLanes;

/// tile[r][..] += in[r][0, inputs) x panel, R rows x V vectors of columns in registers.
template <int R, int V>
MODU_INLINE void MultiplyBlock(const float* panel, const float* in, int64_t in_stride, int inputs,
                               float* tile) {
  Float c[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[r][v] = Load(tile + r * kStrip + v * kLanes);
  }
  for (int k = 0; k < inputs; ++k) {
    Float w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = Load(panel + k * kStrip + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Float a = Set(in[r * in_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) c[r][v] = Fma(a, w[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(tile + r * kStrip + v * kLanes, c[r][v]);
  }
}

template <int R>
void MultiplyRows(const float* panel, const float* in, int64_t in_stride, int inputs, float* tile) {
  // 12 sums of AVX2's 16 registers, 12 of AVX-512's 32.
  constexpr int V = R <= 2 ? kVectors : 2;
  for (int v = 0; v < kVectors; v += V) {
    MultiplyBlock<R, V>(panel + v * kLanes, in, in_stride, inputs, tile + v * kLanes);
  }
}

void MultiplyPanel(const float* panel, const float* in, int64_t in_stride, int inputs, int rows,
                   float* tile) {
  for (int row = 0; row < rows; row += 6) {
    const float* const a = in + row * in_stride;
    float* const c = tile + row * kStrip;
    switch (rows - row) {
      case 1:
        MultiplyRows<1>(panel, a, in_stride, inputs, c);
        break;
      case 2:
        MultiplyRows<2>(panel, a, in_stride, inputs, c);
        break;
      case 3:
        MultiplyRows<3>(panel, a, in_stride, inputs, c);
        break;
      case 4:
        MultiplyRows<4>(panel, a, in_stride, inputs, c);
        break;
      case 5:
        MultiplyRows<5>(panel, a, in_stride, inputs, c);
        break;
      default:
        MultiplyRows<6>(panel, a, in_stride, inputs, c);
    }
  }
}

void FloatStrip(const Strip& strip, const PreparedLayout& layout, bool round_to_bf16,
                const std::byte* in, int rows, float* tile) {
  alignas(64) float panel[kGroup * kStrip];
  const Float zero = Zero();
  for (int i = 0; i < rows * kStrip; i += kLanes) Store(tile + i, zero);
  const int64_t in_stride = layout.row_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t group_bytes = strip.group_bytes;
  const std::byte* group = strip.data;
  for (int64_t k = 0; k < layout.cols; k += kGroup, group += group_bytes) {
    const int inputs = layout.cols - k < kGroup ? static_cast<int>(layout.cols - k) : kGroup;
    const float* weights = panel;
    if (round_to_bf16) {
      DecodeGroup<true>(strip.format, group, inputs, panel);
    } else if (strip.format == StripFormat::kF32) {
      weights = reinterpret_cast<const float*>(group);
    } else {
      DecodeGroup<false>(strip.format, group, inputs, panel);
    }
    MultiplyPanel(weights, reinterpret_cast<const float*>(in) + k, in_stride, inputs, rows, tile);
  }
}

/// StoreTile of whole strips. What there is none of is what changes nothing: 1, or -0.
template <bool kAccumulate>
MODU_INLINE void StoreStrip(const StoreArgs& args) {
  Float scales[kVectors], bias[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    scales[v] = args.scales != nullptr ? Load(args.scales + v * kLanes) : Set(1.0f);
    bias[v] = args.bias != nullptr ? Load(args.bias + v * kLanes) : Set(-0.0f);
  }
  const float* tile = args.tile;
  float* out = args.out;
  for (int row = 0; row < args.rows; ++row, tile += kStrip, out += args.out_stride) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Float x = Add(Mul(Load(tile + v * kLanes), scales[v]), bias[v]);
      Store(out + v * kLanes, kAccumulate ? Add(Load(out + v * kLanes), x) : x);
    }
  }
}

void StoreTile(const StoreArgs& args) {
  if (args.columns == kStrip) {
    return args.accumulate ? StoreStrip<true>(args) : StoreStrip<false>(args);
  }
  const int whole = args.columns / kLanes * kLanes;
  for (int row = 0; row < args.rows; ++row) {
    const float* const tile = args.tile + row * kStrip;
    float* const out = args.out + row * args.out_stride;
    for (int i = 0; i < whole; i += kLanes) {
      Float x = Load(tile + i);
      if (args.scales != nullptr) x = Mul(x, Load(args.scales + i));
      if (args.bias != nullptr) x = Add(x, Load(args.bias + i));
      if (args.accumulate) x = Add(Load(out + i), x);
      Store(out + i, x);
    }
    for (int i = whole; i < args.columns; ++i) {
      float x = tile[i];
      if (args.scales != nullptr) x *= args.scales[i];
      if (args.bias != nullptr) x += args.bias[i];
      out[i] = args.accumulate ? out[i] + x : x;
    }
  }
}

void GateTile(const GateArgs& args) {
  for (int i = 0; i < args.rows * kStrip; i += kLanes) {
    Float gate = Load(args.gate + i), up = Load(args.up + i);
    if (args.gate_scales != nullptr) gate = Mul(gate, Load(args.gate_scales + i % kStrip));
    if (args.up_scales != nullptr) up = Mul(up, Load(args.up_scales + i % kStrip));
    gate = args.activation == Activation::kSilu ? Silu(gate) : GeluTanh(gate);
    Store(args.gate + i, Mul(gate, up));
  }
}

bool LargestOfTile(const LargestArgs& args) {
  Float none = Zero();  // NaN where a product is not finite
  for (int row = 0; row < args.rows; ++row) {
    const float* const tile = args.tile + row * kStrip;
    alignas(64) float products[kStrip];
    Group most = SetGroup(-__builtin_inff());
    for (int i = 0; i < kStrip; i += kLanes) {
      Float x = Load(tile + i);
      if (args.scales != nullptr) x = Mul(x, Load(args.scales + i));
      Store(products + i, x);
      Float used = x;
      if (args.columns < kStrip) {
        used = Select(x, Zero(), 0, args.columns - i);
        x = Select(x, Set(-__builtin_inff()), 0, args.columns - i);
      }
      none = Fma(used, Zero(), none);
      Float& part = most.part[i / kLanes % kParts];
      part = Max(part, x);
    }
    const float largest = Max(most);
    if (!(largest >= args.values[row])) continue;
    int column = 0;
    while (column < args.columns && products[column] != largest) ++column;
    const int32_t id = args.first_id + column;
    if (largest > args.values[row] || id < args.ids[row]) {
      args.values[row] = largest;
      args.ids[row] = id;
    }
  }
  Group all = SetGroup(0.0f);
  all.part[0] = none;
  return Sum(all) == 0.0f;
}

constexpr FloatKernels kFloatKernels = {FloatStrip, StoreTile,   GateTile,  LargestOfTile,
                                        Prepare,    PrepareRows, FinishRows};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
