#include "kernels/cpu/attention_plan.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/strip_units.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kBlocksPerPiece = kPieceTokens / kKvBlockTokens;

/// Pieces that lie wholly before the span's first row.
int WholePieces(const AttentionSpan& span) { return span.first_position / kPieceTokens; }

const int32_t* BlocksOf(const AttentionParams& p, const AttentionSpan& span) {
  return p.block_table + int64_t{span.seq} * p.block_table_stride;
}

/// How many whole pieces the two begin with that are the same blocks.
int CommonPieces(const AttentionParams& p, const AttentionSpan& a, const AttentionSpan& b) {
  const int most = std::min(WholePieces(a), WholePieces(b)) * kBlocksPerPiece;
  const int32_t* const x = BlocksOf(p, a);
  return static_cast<int>(std::mismatch(x, x + most, BlocksOf(p, b)).first - x) / kBlocksPerPiece;
}

std::vector<AttentionSpan> CutSpans(const AttentionParams& p, int most_tokens, int block_rows) {
  std::vector<AttentionSpan> spans;
  // Few tokens are not worth being made fewer: each span reads all of K and V.
  const int align = most_tokens >= 4 * block_rows ? block_rows : 1;
  for (const bool prefill : {true, false}) {
    for (int s = 0; s < p.num_seqs; ++s) {
      const int begin = p.cu_seqlens[s], end = p.cu_seqlens[s + 1];
      if ((end - begin > 1) != prefill) continue;
      for (int last = end; last > begin;) {
        AttentionSpan span;
        span.seq = s;
        const int first = (last - most_tokens + align - 1) / align * align;
        span.token = std::max(begin, first);
        span.num_tokens = last - span.token;
        span.first_position = p.seq_lens[s] - (end - span.token);
        MODU_CHECK(span.first_position >= 0);
        span.piece_begin = FirstVisible(span.first_position, p.window) / kPieceTokens;
        span.piece_end = (span.first_position + span.num_tokens - 1) / kPieceTokens + 1;
        spans.push_back(span);
        last = span.token;
      }
    }
  }
  return spans;
}

/// Spans that walk their first common_pieces together.
struct Join {
  std::vector<int> spans;
  int num_tokens = 0;
  int common_pieces = 0;
};

/// Those of `spans` that begin with the same blocks, as many in a join as most_tokens allows; empty
/// if there are none. One whose neighbours share more among themselves is left alone.
std::vector<Join> FindJoins(const AttentionParams& p, const std::vector<AttentionSpan>& spans,
                            int most_tokens) {
  std::vector<int> order;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].num_tokens < most_tokens && WholePieces(spans[i]) > 0)
      order.push_back(static_cast<int>(i));
  }
  const auto span_at = [&](size_t i) -> const AttentionSpan& {
    return spans[static_cast<size_t>(order[i])];
  };
  // Any order will do that puts equal beginnings side by side.
  std::ranges::stable_sort(order, [&](int i, int j) {
    const AttentionSpan& a = spans[static_cast<size_t>(i)];
    const AttentionSpan& b = spans[static_cast<size_t>(j)];
    const int blocks = std::min(WholePieces(a), WholePieces(b)) * kBlocksPerPiece;
    const int differ =
        std::memcmp(BlocksOf(p, a), BlocksOf(p, b), sizeof(int32_t) * static_cast<size_t>(blocks));
    return differ != 0 ? differ < 0 : WholePieces(a) < WholePieces(b);
  });
  std::vector<int> with_next(order.size() + 1, 0);
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    with_next[i] = CommonPieces(p, span_at(i), span_at(i + 1));
  }
  std::vector<Join> joins;
  for (size_t i = 0; i < order.size();) {
    const int common = with_next[i + 1] > with_next[i] ? 0 : with_next[i];
    Join join = {{order[i]}, span_at(i).num_tokens, common};
    for (++i; common > 0 && with_next[i - 1] >= common; ++i) {
      if (join.num_tokens + span_at(i).num_tokens > most_tokens) break;
      join.spans.push_back(order[i]);
      join.num_tokens += span_at(i).num_tokens;
    }
    if (join.spans.size() > 1) joins.push_back(std::move(join));
  }
  return joins;
}

/// Lays the spans out in their units' order and notes the units.
void LayOut(const AttentionParams& p, std::vector<AttentionSpan> spans, std::vector<Join> joins,
            AttentionPlan* plan) {
  plan->joined = !joins.empty();
  std::vector<bool> joined(spans.size(), false);
  for (const Join& join : joins) {
    for (int i : join.spans) joined[static_cast<size_t>(i)] = true;
  }
  for (size_t i = 0; i < spans.size(); ++i) {
    if (!joined[i]) joins.push_back({{static_cast<int>(i)}, spans[i].num_tokens, 0});
  }
  // The first rows to the first half of the workers, as elsewhere in the step: they have them in
  // their caches (worker_distance.h). Of each half those first that take longest, so that short
  // ones fill the end.
  std::ranges::stable_sort(joins, {}, [&](const Join& join) {
    return spans[static_cast<size_t>(join.spans.front())].token;
  });
  const auto half = joins.begin() + static_cast<std::ptrdiff_t>(joins.size() / 2);
  const auto longer = [&](const Join& a, const Join& b) {
    const auto work = [&](const Join& join) {
      return int64_t{join.num_tokens} * spans[static_cast<size_t>(join.spans.front())].piece_end;
    };
    return work(a) > work(b);
  };
  std::stable_sort(joins.begin(), half, longer);
  std::stable_sort(half, joins.end(), longer);
  for (const Join& join : joins) {
    AttentionUnit unit = {};
    unit.first_span = static_cast<int>(plan->spans.size());
    unit.num_spans = static_cast<int>(join.spans.size());
    unit.common_pieces = join.common_pieces;
    unit.partials = -1;
    unit.first_token = static_cast<int>(plan->tokens.size());
    for (int i : join.spans) {
      const AttentionSpan& span = spans[static_cast<size_t>(i)];
      plan->spans.push_back(span);
      if (unit.num_spans == 1) continue;
      for (int t = 0; t < span.num_tokens; ++t) plan->tokens.push_back(span.token + t);
    }
    const AttentionSpan& first = plan->spans[static_cast<size_t>(unit.first_span)];
    unit.piece_begin = first.piece_begin;
    unit.piece_end = first.piece_end;
    for (unit.kv_head = 0; unit.kv_head < p.num_kv_heads; ++unit.kv_head) {
      plan->units.push_back(unit);
    }
  }
}

/// One unit for each piece, merged afterwards in the same order. No-op if that makes no more.
void SplitPieces(const AttentionParams& p, AttentionPlan* plan) {
  const int group = p.num_heads / p.num_kv_heads;
  std::vector<AttentionUnit> pieces;
  int64_t floats = 0;
  for (const AttentionUnit& unit : plan->units) {
    const AttentionSpan& span = plan->spans[static_cast<size_t>(unit.first_span)];
    for (int piece = unit.piece_begin; piece < unit.piece_end; ++piece) {
      AttentionUnit one = unit;
      one.piece_begin = piece;
      one.piece_end = piece + 1;
      one.partials = floats;
      floats += int64_t{span.num_tokens} * group * StateFloats((p.head_dim + 15) / 16 * 16);
      pieces.push_back(one);
    }
  }
  if (pieces.size() == plan->units.size()) return;
  plan->units.swap(pieces);
  plan->partial_floats = floats;
  plan->split = true;
}

/// Several of units that are much alike; of others one, so that none waits behind a long one for
/// the worker that claimed both.
int ClaimOfUnits(const std::vector<AttentionUnit>& units, const std::vector<AttentionSpan>& spans,
                 int workers) {
  int64_t most = 0, all = 0;
  for (const AttentionUnit& unit : units) {
    int64_t work = 0;
    for (int i = 0; i < unit.num_spans; ++i) {
      work += spans[static_cast<size_t>(unit.first_span + i)].num_tokens;
    }
    work *= unit.piece_end - unit.piece_begin;
    most = std::max(most, work);
    all += work;
  }
  const auto count = static_cast<int>(units.size());
  return most * count > 2 * all ? 1 : ClaimOf(count, workers);
}

/// One way to cut a batch.
struct Cut {
  int most_tokens;  // of a span
  int block_rows;
  bool join;               // spans with common blocks walk them together
  bool by_pieces = false;  // else only where there are too few units to go round
};

AttentionPlan PlanSpans(const AttentionParams& p, int workers, const Cut& cut) {
  AttentionPlan plan;
  plan.most_tokens = cut.most_tokens;
  std::vector<AttentionSpan> spans = CutSpans(p, cut.most_tokens, cut.block_rows);
  // Behind a window rows see different parts of a piece.
  std::vector<Join> joins;
  if (cut.join && p.window == 0) joins = FindJoins(p, spans, cut.most_tokens);
  LayOut(p, std::move(spans), std::move(joins), &plan);
  const bool few = workers > 1 && plan.units.size() < static_cast<size_t>(2 * workers);
  if (!plan.joined && (few || cut.by_pieces)) SplitPieces(p, &plan);
  plan.claim = ClaimOfUnits(plan.units, plan.spans, workers);
  return plan;
}

/// What a piece costs to write out, in rows whose products over it take as long: about half of the
/// 96 rows that it was worth before blocks were fetched ahead (by estimate).
constexpr int64_t kRowsOfWriting = 48;

/// How long the workers take, in rows and pieces, who take units in their order and write out what
/// each sees.
int64_t TimeWrittenOut(const AttentionPlan& plan, int group, int workers) {
  std::vector<int64_t> busy(static_cast<size_t>(workers), 0);
  const auto cost = [&](int64_t tokens, int64_t pieces) {
    return (kRowsOfWriting + tokens * group) * pieces;
  };
  for (const AttentionUnit& unit : plan.units) {
    int64_t took = 0, tokens = 0;
    for (int i = 0; i < unit.num_spans; ++i) {
      const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span + i)];
      const bool alone = unit.num_spans == 1;
      took += cost(span.num_tokens,
                   alone ? unit.piece_end - unit.piece_begin : span.piece_end - unit.common_pieces);
      tokens += span.num_tokens;
    }
    *std::ranges::min_element(busy) += took + cost(tokens, unit.common_pieces);
  }
  return std::ranges::max(busy);
}

/// Partial states that a plan may leave, in floats (16 MiB).
constexpr int64_t kMostPartials = int64_t{4} << 20;

AttentionPlan PlanUnits(const AttentionParams& p, int workers, const UnitLimits& limits,
                        bool join) {
  const int group = p.num_heads / p.num_kv_heads;
  const int most = std::max(1, limits.rows / group);
  const int few = (p.num_tokens * p.num_kv_heads + 4 * workers - 1) / (4 * workers);
  AttentionPlan plan = PlanSpans(p, workers, {std::clamp(few, 1, most), limits.block_rows, join});
  if (!limits.writes_out || p.num_tokens == 0 || p.num_tokens > most) return plan;
  // Each span of a head writes out the same again: one for all tokens may be better, whose pieces
  // are the units.
  int64_t least = TimeWrittenOut(plan, group, workers);
  const int block_rows = limits.block_rows;
  for (const Cut& cut :
       {Cut{p.num_tokens, block_rows, join}, Cut{p.num_tokens, block_rows, false, true}}) {
    AttentionPlan whole = PlanSpans(p, workers, cut);
    const int64_t time = TimeWrittenOut(whole, group, workers);
    if (time >= least || whole.partial_floats > kMostPartials) continue;
    least = time;
    plan = std::move(whole);
  }
  return plan;
}

void ListLooseBlocks(int num_tokens, int block_rows, AttentionPlan* plan) {
  std::vector<bool> whole(static_cast<size_t>((num_tokens + block_rows - 1) / block_rows), false);
  for (const AttentionSpan& span : plan->spans) {
    if (plan->split) break;
    const BlockTokens tokens = WholeBlocks(span, block_rows, num_tokens);
    for (int t = tokens.begin; t < tokens.end; t += block_rows) {
      whole[static_cast<size_t>((span.token + t) / block_rows)] = true;
    }
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    if (!whole[i]) plan->loose_blocks.push_back(static_cast<int32_t>(i));
  }
}

}  // namespace

BlockTokens WholeBlocks(const AttentionSpan& span, int block_rows, int step_tokens) {
  const int last = span.token + span.num_tokens;
  const int begin = (span.token + block_rows - 1) / block_rows * block_rows;
  const int end = last == step_tokens ? last : last / block_rows * block_rows;
  return {begin - span.token, std::max(begin, end) - span.token};
}

AttentionPlan PlanAttention(const AttentionParams& p, int workers, const UnitLimits& limits,
                            bool join) {
  AttentionPlan plan = PlanUnits(p, workers, limits, join);
  if (limits.block_rows > 1) ListLooseBlocks(p.num_tokens, limits.block_rows, &plan);
  return plan;
}

const AttentionPlan& AttentionPlans::Of(const AttentionParams& p, int workers,
                                        const UnitLimits& limits) {
  if (p.step == 0 || p.step != step_) known_.clear();
  step_ = p.step;
  const auto at =
      std::ranges::find_if(known_, [&](const Known& known) { return known.Fits(p, limits); });
  if (at != known_.end()) return at->plan;
  return known_
      .emplace_back(Known{p.num_heads, p.num_kv_heads, p.head_dim, p.window, limits,
                          PlanAttention(p, workers, limits)})
      .plan;
}

}  // namespace modu::kernels::cpu
