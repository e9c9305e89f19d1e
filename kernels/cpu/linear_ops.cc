// Embedding and the matrix products of the op table: who computes which strip for which rows.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/gated_rows.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/linear_tile_ops.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/row_finisher.h"
#include "kernels/cpu/strip_products.h"
#include "kernels/cpu/strip_units.h"

namespace modu::kernels::cpu {
namespace {

/// Outputs lie in L3 or with the other worker, where whoever wrote or read them last left them:
/// nearer, and as this worker's to write, while the products are made.
void FetchOutputs(const float* out, int64_t stride, int rows) {
  for (int r = 0; r < rows; ++r, out += stride) {
    asm volatile("prefetchw %0" : : "m"(*out));
    asm volatile("prefetchw %0" : : "m"(out[kStrip / 2]));
  }
}

/// What is fetched for later while a strip is multiplied with `rows` rows: a line for every 8
/// multiplications, of which two groups of a row and a register take 19 (int8_join-inl.h), less
/// the next strip; with 16, nearer to what many rows of nibbles take, steps took as long. Memory
/// gives two cores of Zen 4 about as much; more, and products wait for it
/// (benchmarks/results/2026-11-28-zen4-kv-ahead.md). On a machine with AMX attention gained what
/// products lost (2026-11-30-amx-prompts.md).
int64_t BytesBeside(const CpuDevice& cpu, const CpuWeight& weight, int rows) {
  if (weight.prepared().kind != PreparedKind::kInt8 || cpu.isa() >= Isa::kAmx) return 0;
  constexpr int kMultiplicationsALine = 8, kPairMultiplications = 19;
  const int64_t multiplications =
      int64_t{rows} * (kStrip / 16) * PairsOf(weight.prepared().groups()) * kPairMultiplications;
  return std::max<int64_t>(
      0, multiplications / kMultiplicationsALine * 64 - weight.strips().front().bytes);
}

}  // namespace

void Embed(Device& device, const EmbedParams& p) {
  const CpuWeight& table = Weight(p.table);
  const int64_t width = table.cols();
  Cpu(device).pool().Run(p.num_tokens, 4, [&](int first, int last, int) {
    for (int t = first; t < last; ++t) {
      float* const hidden = p.hidden + t * width;
      table.DecodeRow(p.token_ids[t], hidden);
      if (p.scale == 1.0f) continue;
      for (int64_t i = 0; i < width; ++i) hidden[i] *= p.scale;
    }
  });
}

/// By the caller: mostly of few rows (of a prompt the last one), and in place they have an order.
void KeepRows(Device&, const KeepRowsParams& p) {
  for (int i = 0; i < p.num_rows; ++i) {
    const float* const from = p.data + p.rows[i] * p.stride;
    if (p.rows[i] != i) std::copy(from, from + p.width, p.data + i * p.stride);
  }
}

void Linear(Device& device, const LinearParams& p) {
  CpuDevice& cpu = Cpu(device);
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  MODU_CHECK(p.num_tokens > 0 && weight.use() != WeightUse::kGatedLinear);
  if (weight.prepared().kind == PreparedKind::kBf16Tiles) return LinearByTiles(cpu, p);
  const std::span<const Strip> strips = weight.strips();
  const RowBlocks blocks = CutRows(cpu, weight, p.num_tokens);
  FetchFollowing(cpu, weight, blocks.sharers);
  ForBlocks(
      cpu, static_cast<int>(strips.size()), p.num_tokens, blocks, [] { return 0; },
      [&](int, const BlockUnit& unit) {
        alignas(64) float tile[kTileRows * kStrip];
        const Strip& strip = strips[static_cast<size_t>(unit.strip)];
        float* const out = p.out + unit.row * p.out_stride + strip.column;
        FetchOutputs(out, p.out_stride, unit.rows);
        ComputeStrip(kernels, weight, strip, weight.prepared().Row(p.in, unit.row), unit.rows,
                     AheadOf(kernels, weight, strip, unit, blocks), tile);
        kernels.f32.store({.tile = tile,
                           .rows = unit.rows,
                           .columns = strip.columns,
                           .scales = strip.scales,
                           .bias = p.bias == nullptr ? nullptr : p.bias + strip.column,
                           .accumulate = p.accumulate,
                           .out = out,
                           .out_stride = p.out_stride});
      });
}

void GatedLinear(Device& device, const GatedLinearParams& p) {
  CpuDevice& cpu = Cpu(device);
  const LinearKernels& kernels = cpu.linear_kernels();
  const CpuWeight& weight = Weight(p.weight);
  const PreparedLayout& out_layout = LayoutOf(*p.consumer);
  MODU_CHECK(p.num_tokens > 0);
  MODU_CHECK(weight.use() == WeightUse::kGatedLinear && out_layout.cols * 2 == weight.rows());
  if (weight.prepared().kind == PreparedKind::kBf16Tiles) return GatedLinearByTiles(cpu, p);
  const std::span<const Strip> strips = weight.strips();
  const RowBlocks blocks = CutRows(cpu, weight, p.num_tokens);
  FetchFollowing(cpu, weight, blocks.sharers);
  const int num_strips = static_cast<int>(strips.size());
  RowFinisher finisher(kernels.f32, out_layout, p.out, p.num_tokens, blocks.rows, num_strips / 2);
  // Blocks of rows fetch for later, but not a last one of few rows: it has no time for it.
  const int fetching = std::max(1, (p.num_tokens + blocks.rows / 4) / blocks.rows);
  const int calls = fetching * num_strips;
  cpu.kv_ahead().List(p.next_attention,
                      calls * BytesBeside(cpu, weight, std::min(p.num_tokens, blocks.rows)), calls);
  ForBlocks(
      cpu, num_strips / 2, p.num_tokens, blocks, [&] { return RowFinisher::Pieces(finisher); },
      [&](RowFinisher::Pieces& pieces, const BlockUnit& unit) {
        alignas(64) float gate[kTileRows * kStrip];
        alignas(64) float up[kTileRows * kStrip];
        const Strip& gate_strip = strips[static_cast<size_t>(2 * unit.strip)];
        const Strip& up_strip = strips[static_cast<size_t>(2 * unit.strip + 1)];
        const std::byte* const in = weight.prepared().Row(p.in, unit.row);
        Ahead ahead = AheadOf(kernels, weight, gate_strip, unit.rows, blocks);
        ahead.pieces = cpu.kv_ahead().Share(2 * unit.index);
        ComputeStrip(kernels, weight, gate_strip, in, unit.rows, ahead, gate);
        ahead = AheadOf(kernels, weight, up_strip, unit, blocks);
        ahead.pieces = cpu.kv_ahead().Share(2 * unit.index + 1);
        ComputeStrip(kernels, weight, up_strip, in, unit.rows, ahead, up);
        WriteGatedRows(kernels, p, gate_strip, up_strip, unit.row, unit.rows, gate, up);
        pieces.Wrote(unit.row, unit.rows);
      });
}

}  // namespace modu::kernels::cpu
