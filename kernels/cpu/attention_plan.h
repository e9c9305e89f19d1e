// How the attention of one step is cut into units for the pool's workers. A unit is one KV head and
// one or several spans of query rows. Spans whose sequences begin with the same KV blocks (a common
// prompt in the prefix cache) walk those blocks together, so that K and V are read once for many
// rows and rows fill whole tiles; then each walks its own. Each row still meets the same pieces in
// the same order, so no bit of a row depends on its company. Pure functions of the batch's layout.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

/// Consecutive query rows of one sequence, and the pieces of its KV that they see.
struct AttentionSpan {
  int seq;
  int token;  // first, a row of the step
  int num_tokens;
  int first_position;  // of that token in its sequence
  int piece_begin, piece_end;
};

/// One KV head of one or several spans.
struct AttentionUnit {
  int kv_head;
  int first_span, num_spans;
  int common_pieces;           // that the spans walk together before each goes on; 0 of one span
  int first_token;             // in AttentionPlan::tokens, of several spans
  int piece_begin, piece_end;  // of the first span
  int64_t partials;            // floats into the shared scratch; -1: the plan is not split
};

struct AttentionPlan {
  std::vector<AttentionSpan> spans;
  std::vector<AttentionUnit> units;  // first rows first by halves, in each the longest first
  std::vector<int32_t> tokens;       // rows of the step, of units with several spans
  /// Blocks of UnitLimits::block_rows rows of the step that are not in one span each, or in one
  /// that is not whole before its pieces are merged; of block_rows 1 none is listed.
  std::vector<int32_t> loose_blocks;
  bool joined = false;  // there are such
  bool split = false;   // each unit is one piece of one span, to be merged afterwards
  int64_t partial_floats = 0;
  int most_tokens = 1;  // of a unit
  int claim = 1;        // units that a worker takes at once, at most
};

/// Tokens [begin, end) of the span that are whole blocks of the step, whose last one ends with it.
struct BlockTokens {
  int begin, end;
};
BlockTokens WholeBlocks(const AttentionSpan& span, int block_rows, int step_tokens);

/// join: whether spans with common blocks walk them together; off for tests and measurements.
AttentionPlan PlanAttention(const AttentionParams& p, int workers, const UnitLimits& limits = {},
                            bool join = true);

/// Plans of the step in hand: its layers' are the same, but for their windows.
class AttentionPlans {
 public:
  /// PlanAttention(p, workers, limits), where it is known from a call before with the same
  /// p.step. Valid until the next call. `workers` must not change.
  const AttentionPlan& Of(const AttentionParams& p, int workers, const UnitLimits& limits = {});

 private:
  struct Known {
    int num_heads, num_kv_heads, head_dim, window;
    UnitLimits limits;
    AttentionPlan plan;
    bool Fits(const AttentionParams& p, const UnitLimits& wanted) const {
      return limits == wanted && num_heads == p.num_heads && num_kv_heads == p.num_kv_heads &&
             head_dim == p.head_dim && window == p.window;
    }
  };
  uint64_t step_ = 0;
  std::vector<Known> known_;
};

}  // namespace modu::kernels::cpu
