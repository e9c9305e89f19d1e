// The ops around attention: cuts their work into units for the pool and writes what the consumer
// reads. How the work is cut follows the batch and the number of workers; no bit of a row does.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/own_lines.h"
#include "kernels/cpu/row_finisher.h"
#include "kernels/cpu/row_kernels.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kBlocksPerPiece = kPieceTokens / kKvBlockTokens;

const RowKernels& RowKernelsOf(Isa isa) {
  return isa >= Isa::kAvx512 ? kRowKernelsAvx512 : kRowKernelsAvx2;
}

/// Units of `rows` rows such that every worker gets several, but none smaller than one row.
int RowsPerUnit(int rows, int workers, int most) {
  return std::clamp((rows + 4 * workers - 1) / (4 * workers), 1, most);
}

/// Rows of a block share cache lines: more than one are written by whole blocks.
bool ByBlocks(const PreparedLayout& layout, int num_tokens) {
  return layout.kind == PreparedKind::kBf16Tiles && num_tokens > 1;
}

/// What the units of one call have in common.
struct AttentionCall {
  const AttentionParams& p;
  const CpuKvCache& kv;
  const AttentionPlan& plan;
  int group;
  int64_t group_width;
  int64_t q_stride;
  int value_span;
  AttentionFn run;

  /// The blocks of the first piece that is read from `piece` on.
  NextBlocks BlocksFrom(const AttentionSpan& span, int kv_head, int piece) const {
    const int first = std::max(FirstVisible(span.first_position, p.window) / kKvBlockTokens,
                               piece * kBlocksPerPiece);
    const int last = (span.first_position + span.num_tokens - 1) / kKvBlockTokens;
    const int piece_end = (first / kBlocksPerPiece + 1) * kBlocksPerPiece;
    return {.k = kv.Head(p.layer, kv_head),
            .blocks = p.block_table + int64_t{span.seq} * p.block_table_stride + first,
            .count = std::min(last + 1, piece_end) - first};
  }

  AttentionItem Item(const AttentionSpan& span, int kv_head) const {
    AttentionItem item = {};
    item.q = p.qkv + span.token * q_stride + kv_head * group_width;
    item.q_stride = q_stride;
    item.num_tokens = span.num_tokens;
    item.group = group;
    item.first_position = span.first_position;
    item.head_dim = p.head_dim;
    item.padded_dim = kv.geometry().padded_dim;
    item.window = p.window;
    item.value_span = value_span;
    item.k = kv.Head(p.layer, kv_head);
    item.half_bytes = kv.geometry().half_bytes;
    item.v_offset = kv.geometry().v_offset;
    item.block_stride = kv.geometry().block_stride;
    item.block_table = p.block_table + int64_t{span.seq} * p.block_table_stride;
    item.piece_begin = span.piece_begin;
    item.piece_end = span.piece_end;
    return item;
  }

  /// The pieces that all spans of a unit begin with: leaves each row's state at `states`.
  void RunCommon(const AttentionUnit& unit, float* states, float* scratch) const {
    const AttentionSpan& first = plan.spans[static_cast<size_t>(unit.first_span)];
    AttentionItem item = Item(first, unit.kv_head);
    item.q = p.qkv + unit.kv_head * group_width;
    item.q_tokens = plan.tokens.data() + unit.first_token;
    item.num_tokens = 0;
    for (int i = 0; i < unit.num_spans; ++i) {
      item.num_tokens += plan.spans[static_cast<size_t>(unit.first_span + i)].num_tokens;
    }
    item.piece_end = unit.common_pieces;
    item.first_position = item.piece_end * kPieceTokens;  // or behind: all of the pieces are seen
    item.next = BlocksFrom(first, unit.kv_head, unit.common_pieces);
    item.states = states;
    item.scratch = scratch;
    const int64_t state_floats = StateFloats(item.padded_dim);
    for (int r = 0; r < item.num_tokens * group; ++r) states[r * state_floats + kHasPieces] = 0.0f;
    run(item);
  }
};

}  // namespace

void Norm(Device& device, const NormParams& p) {
  CpuDevice& cpu = Cpu(device);
  const PreparedLayout layout = LayoutOf(*p.consumer);
  MODU_CHECK(layout.cols == p.width);
  const auto rms_norm = RowKernelsOf(cpu.isa()).rms_norm;
  const PrepareFn prepare = cpu.prepare();
  const auto norm = [&](int t, float* normed) {
    const int64_t from = p.rows != nullptr ? p.rows[t] : t;
    const float* const row = p.hidden + from * p.width;
    if (p.weight == nullptr) return row;
    rms_norm(row, p.width, p.weight, p.eps, normed);
    return static_cast<const float*>(normed);
  };
  if (ByBlocks(layout, p.num_tokens)) {
    cpu.pool().ReserveScratch(static_cast<size_t>(layout.block_rows * p.width) * sizeof(float));
    const int blocks = (p.num_tokens + layout.block_rows - 1) / layout.block_rows;
    cpu.pool().Run(blocks, 1, [&](int first, int last, int worker) {
      auto* const normed = reinterpret_cast<float*>(cpu.pool().scratch(worker));
      for (int token = first * layout.block_rows; token < last * layout.block_rows;
           token += layout.block_rows) {
        const int rows = std::min(layout.block_rows, p.num_tokens - token);
        for (int r = 0; r < rows; ++r) {
          float* const to = normed + int64_t{r} * p.width;
          const float* const row = norm(token + r, to);
          if (row != to) std::copy(row, row + p.width, to);
        }
        cpu.linear_kernels().bf16_tiles.prepare(layout, layout.Row(p.out, token), 0,
                                                layout.groups(), rows, normed, p.width);
      }
    });
    return;
  }
  cpu.pool().ReserveScratch(static_cast<size_t>(p.width) * sizeof(float));
  const int grain = RowsPerUnit(p.num_tokens, cpu.num_threads(), 16);
  cpu.pool().Run(p.num_tokens, grain, [&](int first, int last, int worker) {
    auto* const normed = reinterpret_cast<float*>(cpu.pool().scratch(worker));
    OwnLines(layout.Row(p.out, first), layout.row_bytes);
    for (int t = first; t < last; ++t) {
      if (t + 1 < last) OwnLines(layout.Row(p.out, t + 1), layout.row_bytes);
      prepare(layout, layout.Row(p.out, t), 0, p.width, norm(t, normed));
    }
  });
}

void RopeTable(Device& device, const RopeTableParams& p) {
  CpuDevice& cpu = Cpu(device);
  const int half = p.rotary_dim / 2;
  const int grain = RowsPerUnit(p.num_tokens, cpu.num_threads(), 16);
  cpu.pool().Run(p.num_tokens, grain, [&](int first, int last, int) {
    for (int t = first; t < last; ++t) {
      float* row = p.cos_sin + int64_t{t} * p.rotary_dim;
      for (int i = 0; i < half; ++i) {
        // In double: at position 131072 a float32 angle is off by up to 0.004.
        const double angle = static_cast<double>(p.positions[t]) * p.inv_freq[i];
        row[i] = static_cast<float>(std::cos(angle) * p.attention_scale);
        row[half + i] = static_cast<float>(std::sin(angle) * p.attention_scale);
      }
    }
  });
}

void Qkv(Device& device, const QkvParams& p) {
  CpuDevice& cpu = Cpu(device);
  const auto& kv = static_cast<const CpuKvCache&>(*p.kv);
  const KvGeometry& geometry = kv.geometry();
  MODU_CHECK(kv.layout().head_dim == p.head_dim && kv.layout().num_kv_heads == p.num_kv_heads);
  MODU_CHECK(p.rotary_dim % 2 == 0 && p.rotary_dim <= p.head_dim);
  const RowKernels& kernels = RowKernelsOf(cpu.isa());
  const auto run = kernels.Qkv(kv.layout().dtype);
  const int64_t stride = int64_t{p.num_heads + 2 * p.num_kv_heads} * p.head_dim;
  const int grain = RowsPerUnit(p.num_tokens, cpu.num_threads(), 16);
  cpu.pool().Run(p.num_tokens, grain, [&](int first, int last, int) {
    for (int t = first; t < last; ++t) {
      const int64_t slot = p.slot_mapping[t];
      MODU_CHECK(slot >= 0 && slot / kKvBlockTokens < kv.num_blocks());
      QkvRow row;
      row.row = p.qkv + t * stride;
      row.num_heads = p.num_heads;
      row.num_kv_heads = p.num_kv_heads;
      row.head_dim = p.head_dim;
      row.q_norm = p.q_norm;
      row.k_norm = p.k_norm;
      row.norm_eps = p.norm_eps;
      row.cos_sin = p.cos_sin == nullptr ? nullptr : p.cos_sin + int64_t{t} * p.rotary_dim;
      row.rotary_dim = p.rotary_dim;
      row.interleaved = p.interleaved;
      row.q_scale = p.q_scale;
      row.k = kv.Head(p.layer, 0) + slot / kKvBlockTokens * geometry.block_stride;
      row.head_bytes = geometry.head_bytes;
      row.half_bytes = geometry.half_bytes;
      row.v_offset = geometry.v_offset;
      row.offset = static_cast<int>(slot % kKvBlockTokens);
      run(row);
    }
  });
}

void Attention(Device& device, const AttentionParams& p) {
  if (p.num_tokens == 0) return;
  CpuDevice& cpu = Cpu(device);
  const auto& kv = static_cast<const CpuKvCache&>(*p.kv);
  const int padded_dim = kv.geometry().padded_dim;
  const PreparedLayout layout = LayoutOf(*p.consumer);
  const int group = p.num_heads / p.num_kv_heads;
  const int64_t width = int64_t{p.num_heads} * p.head_dim;
  const int64_t group_width = int64_t{group} * p.head_dim;
  const int64_t stride = width + 2 * int64_t{p.num_kv_heads} * p.head_dim;
  const int64_t state_floats = StateFloats(padded_dim);
  MODU_CHECK(p.num_heads == group * p.num_kv_heads && p.head_dim <= kMaxHeadDim);
  MODU_CHECK(layout.cols == width);
  MODU_CHECK(kv.layout().head_dim == p.head_dim && kv.layout().num_kv_heads == p.num_kv_heads);
  const AttentionKernels& kernels = cpu.attention_kernels();
  const auto run = kernels.Run(kv.layout().dtype, layout.kind);
  const PrepareFn prepare = cpu.prepare();

  const UnitLimits limits = kernels.Units(kv.layout().dtype, layout.kind, p.head_dim);
  const AttentionPlan& plan = cpu.attention_plans().Of(p, cpu.num_threads(), limits);
  const int value_span = IsKvCode(kv.layout().dtype) ? RotationSpan(p.head_dim) : 1;
  const AttentionCall call = {p, kv, plan, group, group_width, stride, value_span, run};
  // The heads of one KV head are adjacent columns; whole int8 groups can be written at once.
  const bool by_blocks = ByBlocks(layout, p.num_tokens);
  const bool direct =
      !by_blocks && (layout.kind != PreparedKind::kInt8 || group_width % kGroup == 0);
  const int64_t shared_floats = plan.partial_floats + (direct ? 0 : p.num_tokens * width);
  float* const shared = shared_floats == 0
                            ? nullptr
                            : reinterpret_cast<float*>(cpu.SharedScratch(
                                  static_cast<size_t>(shared_floats) * sizeof(float)));
  float* const whole = direct ? nullptr : shared + plan.partial_floats;
  const int most_rows = plan.most_tokens * group;
  const size_t item_floats = AttentionScratchFloats(kv.layout().dtype, most_rows, padded_dim);
  const size_t out_floats = static_cast<size_t>(plan.most_tokens * group_width);
  const size_t state_room = plan.joined ? static_cast<size_t>(most_rows * state_floats) : 0;
  cpu.pool().ReserveScratch((item_floats + out_floats + state_room) * sizeof(float));
  RowFinisher finisher(cpu.linear_kernels().f32, layout, p.out, p.num_tokens, 1, p.num_kv_heads);
  const auto write = [&](int token, int kv_head, const float* values) {
    prepare(layout, layout.Row(p.out, token), kv_head * group_width, group_width, values);
  };

  const auto units = static_cast<int>(plan.units.size());
  cpu.pool().Run(units, plan.claim, [&](int first, int last, int worker) {
    auto* const scratch = reinterpret_cast<float*>(cpu.pool().scratch(worker));
    float* const out = scratch + item_floats;
    RowFinisher::Pieces pieces(finisher);
    for (int u = first; u < last; ++u) {
      const AttentionUnit& unit = plan.units[static_cast<size_t>(u)];
      float* states = unit.num_spans > 1 ? out + out_floats : nullptr;
      if (states != nullptr) call.RunCommon(unit, states, scratch);
      for (int i = 0; i < unit.num_spans; ++i) {
        const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span + i)];
        AttentionItem item = call.Item(span, unit.kv_head);
        if (i + 1 < unit.num_spans) {
          item.next = call.BlocksFrom(plan.spans[static_cast<size_t>(unit.first_span + i) + 1],
                                      unit.kv_head, unit.common_pieces);
        } else if (static_cast<size_t>(u) + 1 < plan.units.size()) {
          const AttentionUnit& next = plan.units[static_cast<size_t>(u) + 1];
          item.next = call.BlocksFrom(plan.spans[static_cast<size_t>(next.first_span)],
                                      next.kv_head, next.piece_begin);
        }
        if (states != nullptr) {
          item.piece_begin = unit.common_pieces;
          item.states = states;
          states += span.num_tokens * group * state_floats;
        } else {
          item.piece_begin = unit.piece_begin;
          item.piece_end = unit.piece_end;
        }
        item.scratch = scratch;
        item.partials = plan.split ? shared + unit.partials : nullptr;
        item.out = direct ? out : whole + span.token * width + unit.kv_head * group_width;
        item.out_stride = direct ? group_width : width;
        if (by_blocks && limits.block_rows > 1 && !plan.split) {
          const BlockTokens tokens = WholeBlocks(span, layout.block_rows, p.num_tokens);
          item.blocks = {layout.Row(p.out, span.token + tokens.begin) +
                             unit.kv_head * group_width / kGroup * kTileBytes,
                         layout.block_bytes, tokens.begin, tokens.end};
        }
        run(item);
        if (plan.split || !direct) continue;
        for (int t = 0; t < span.num_tokens; ++t) {
          write(span.token + t, unit.kv_head, item.out + t * group_width);
        }
        pieces.Wrote(span.token, span.num_tokens);
      }
    }
  });

  if (plan.split) {
    // The first piece's unit of every span knows where its rows' states begin.
    cpu.pool().Run(units, 1, [&](int first, int last, int worker) {
      for (int u = first; u < last; ++u) {
        const AttentionUnit& unit = plan.units[static_cast<size_t>(u)];
        const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span)];
        if (unit.piece_begin != span.piece_begin) continue;
        const int64_t piece_stride = int64_t{span.num_tokens} * group * state_floats;
        for (int t = 0; t < span.num_tokens; ++t) {
          const int position = span.first_position + t;
          const int from = FirstVisible(position, p.window) / kPieceTokens;
          float* out = direct ? reinterpret_cast<float*>(cpu.pool().scratch(worker))
                              : whole + (span.token + t) * width + unit.kv_head * group_width;
          for (int h = 0; h < group; ++h) {
            MergeItem item;
            item.partials = shared + unit.partials + (from - span.piece_begin) * piece_stride +
                            (int64_t{t} * group + h) * state_floats;
            item.piece_stride = piece_stride;
            item.num_pieces = position / kPieceTokens - from + 1;
            item.head_dim = p.head_dim;
            item.padded_dim = padded_dim;
            item.value_span = value_span;
            item.out = out + int64_t{h} * p.head_dim;
            kernels.merge(item);
          }
          if (!direct) continue;
          write(span.token + t, unit.kv_head, out);
          finisher.Wrote(span.token + t, 1);
        }
      }
    });
  }
  if (by_blocks) {
    // What no unit had whole blocks of. Tiles of a block to any worker: a short batch is one block.
    const auto groups = static_cast<int>(layout.groups());
    const bool listed = limits.block_rows > 1;
    const int blocks = listed ? static_cast<int>(plan.loose_blocks.size())
                              : (p.num_tokens + layout.block_rows - 1) / layout.block_rows;
    if (blocks == 0) return;
    cpu.pool().Run(blocks * groups, std::max(1, groups / 4), [&](int first, int last, int) {
      for (int unit = first; unit < last;) {
        const int group = unit % groups;
        const int block =
            listed ? plan.loose_blocks[static_cast<size_t>(unit / groups)] : unit / groups;
        const int until = std::min(groups, group + last - unit);
        const int token = block * layout.block_rows;
        cpu.linear_kernels().bf16_tiles.prepare(layout, layout.Row(p.out, token), group, until,
                                                std::min(layout.block_rows, p.num_tokens - token),
                                                whole + token * width, width);
        unit += until - group;
      }
    });
  } else if (!direct) {
    const int grain = RowsPerUnit(p.num_tokens, cpu.num_threads(), 16);
    cpu.pool().Run(p.num_tokens, grain, [&](int first, int last, int) {
      for (int t = first; t < last; ++t) {
        prepare(layout, layout.Row(p.out, t), 0, width, whole + t * width);
      }
    });
  }
}

}  // namespace modu::kernels::cpu
