// How a step's attention is cut: every row once, and sequences together only over blocks that they
// share.
#include "kernels/cpu/attention_plan.h"

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"
#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kStride = 64, kBlocksPerPiece = kPieceTokens / kKvBlockTokens;

/// A step's layout: sequences with a first row's position and a number of rows.
struct Step {
  explicit Step(int num_heads = 9, int num_kv_heads = 3) {
    params.num_heads = num_heads;
    params.num_kv_heads = num_kv_heads;
    params.head_dim = 64;
  }

  /// The first `common` blocks are those of the family, the others its own.
  void Add(int family, int common, int position, int rows = 1) {
    cu_seqlens.push_back(cu_seqlens.back() + rows);
    seq_lens.push_back(position + rows);
    for (int b = 0; b < kStride; ++b) {
      table.push_back(b < common ? family * 1000 + b : next_block++);
    }
  }

  AttentionPlan Plan(int workers, bool join = true, const UnitLimits& limits = {}) {
    params.num_tokens = cu_seqlens.back();
    params.num_seqs = static_cast<int>(seq_lens.size());
    params.cu_seqlens = cu_seqlens.data();
    params.seq_lens = seq_lens.data();
    params.block_table = table.data();
    params.block_table_stride = kStride;
    return PlanAttention(params, workers, limits, join);
  }

  AttentionParams params = {};
  std::vector<int32_t> cu_seqlens = {0}, seq_lens, table;
  int next_block = 100'000;
};

/// (row, KV head, piece) that the plan walks, each once; and what walks together is shared.
void CheckPlan(const Step& step, const AttentionPlan& plan) {
  const AttentionParams& p = step.params;
  std::vector<std::vector<int>> walked(static_cast<size_t>(p.num_tokens * p.num_kv_heads),
                                       std::vector<int>(kStride / kBlocksPerPiece, 0));
  for (const AttentionUnit& unit : plan.units) {
    int tokens = 0, misplaced = 0;
    for (int i = 0; i < unit.num_spans; ++i) {
      const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span + i)];
      const AttentionSpan& first = plan.spans[static_cast<size_t>(unit.first_span)];
      CHECK(span.token >= p.cu_seqlens[span.seq]);
      CHECK(span.token + span.num_tokens <= p.cu_seqlens[span.seq + 1]);
      const int begin = unit.num_spans > 1 ? span.piece_begin : unit.piece_begin;
      const int end = unit.num_spans > 1 ? span.piece_end : unit.piece_end;
      for (int t = 0; t < span.num_tokens; ++t) {
        const auto row = static_cast<size_t>((span.token + t) * p.num_kv_heads + unit.kv_head);
        for (int piece = begin; piece < end; ++piece) ++walked[row][static_cast<size_t>(piece)];
        if (unit.num_spans == 1) continue;
        const auto at = static_cast<size_t>(unit.first_token + tokens + t);
        misplaced += plan.tokens[at] == span.token + t ? 0 : 1;
      }
      tokens += span.num_tokens;
      // Every row of it sees all of the common pieces, and then some of its own.
      CHECK(unit.common_pieces * kPieceTokens <= span.first_position);
      const int32_t* const blocks = p.block_table + span.seq * kStride;
      CHECK(std::equal(blocks, blocks + unit.common_pieces * kBlocksPerPiece,
                       p.block_table + first.seq * kStride));
    }
    CHECK(misplaced == 0);
    CHECK(tokens <= plan.most_tokens);
    CHECK((unit.num_spans > 1) == (unit.common_pieces > 0));
  }
  int wrong = 0;
  for (int s = 0; s < p.num_seqs; ++s) {
    for (int t = p.cu_seqlens[s]; t < p.cu_seqlens[s + 1]; ++t) {
      const int position = p.seq_lens[s] - (p.cu_seqlens[s + 1] - t);
      for (int head = 0; head < p.num_kv_heads; ++head) {
        const auto& row = walked[static_cast<size_t>(t * p.num_kv_heads + head)];
        const int from = FirstVisible(position, p.window) / kPieceTokens;
        for (int piece = from; piece <= position / kPieceTokens; ++piece) {
          wrong += row[static_cast<size_t>(piece)] == 1 ? 0 : 1;
        }
        wrong += *std::max_element(row.begin(), row.end()) == 1 ? 0 : 1;
      }
    }
  }
  CHECK(wrong == 0);
}

/// Of the step's blocks of rows each is either in one span or listed as loose.
void CheckBlocks(const Step& step, const AttentionPlan& plan, int block_rows, int* whole) {
  const int tokens = step.params.num_tokens;
  std::vector<int> found(static_cast<size_t>((tokens + block_rows - 1) / block_rows), 0);
  for (const int32_t block : plan.loose_blocks) ++found.at(static_cast<size_t>(block));
  for (const AttentionSpan& span : plan.spans) {
    if (plan.split) break;
    const BlockTokens part = WholeBlocks(span, block_rows, tokens);
    REQUIRE((part.begin >= 0 && part.begin <= part.end));
    if (part.begin == part.end) continue;
    REQUIRE(part.end <= span.num_tokens);
    REQUIRE((span.token + part.begin) % block_rows == 0);
    REQUIRE(((span.token + part.end) % block_rows == 0 || span.token + part.end == tokens));
    for (int t = part.begin; t < part.end; t += block_rows) {
      ++found.at(static_cast<size_t>((span.token + t) / block_rows));
      ++*whole;
    }
  }
  CHECK(std::ranges::count(found, 1) == static_cast<std::ptrdiff_t>(found.size()));
}

int64_t PiecesWalked(const AttentionPlan& plan) {
  int64_t pieces = 0;
  for (const AttentionUnit& unit : plan.units) {
    pieces += unit.common_pieces;
    for (int i = 0; i < unit.num_spans; ++i) {
      const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span + i)];
      pieces += unit.num_spans > 1 ? span.piece_end - unit.common_pieces
                                   : unit.piece_end - unit.piece_begin;
    }
  }
  return pieces;
}

TEST_CASE("64 sequences with 1,000 common tokens walk their whole pieces together") {
  Step step;
  for (int s = 0; s < 64; ++s) step.Add(1, 31, 1020 + s);
  const AttentionPlan plan = step.Plan(2);
  CheckPlan(step, plan);
  CHECK(plan.joined);
  // 24 tokens a unit on two workers: three units of each head walk 3 pieces, each sequence its own.
  CHECK(plan.most_tokens == 24);
  CHECK(plan.units.size() == 9);
  const int64_t own = 3 * (64 * 1 + 60);  // all but four have begun a second piece of their own
  CHECK(PiecesWalked(plan) == 3 * 3 * 3 + own);
  const AttentionPlan alone = step.Plan(2, false);
  CHECK_FALSE(alone.joined);
  CHECK(PiecesWalked(alone) == 3 * 3 * 64 + own);
}

TEST_CASE("Nothing is joined below a whole piece, behind a window, or where workers would idle") {
  Step below, window, few;
  for (int s = 0; s < 16; ++s) below.Add(1, 7, 400);
  CHECK_FALSE(below.Plan(2).joined);
  for (int s = 0; s < 16; ++s) window.Add(1, 31, 1000);
  window.params.window = 4096;
  CHECK_FALSE(window.Plan(2).joined);
  for (int s = 0; s < 2; ++s) few.Add(1, 31, 1000);
  const AttentionPlan plan = few.Plan(16);
  CHECK_FALSE(plan.joined);
  CHECK(plan.split);
}

TEST_CASE("Two that share more than a third go without it") {
  Step step;
  step.Add(1, 8, 300);
  step.Add(1, 24, 900);
  step.Add(1, 24, 900);
  for (int s = 0; s < 13; ++s) step.Add(0, 0, 900);
  const AttentionPlan plan = step.Plan(1);
  CheckPlan(step, plan);
  int joins = 0;
  for (const AttentionUnit& unit : plan.units) {
    if (unit.num_spans == 1) continue;
    ++joins;
    CHECK(unit.common_pieces == 3);
    CHECK(unit.num_spans == 2);
  }
  CHECK(joins == 3);  // KV heads
}

/// Until the last of the workers is done, who take units in their order, where each piece costs its
/// rows and `once`.
int64_t Takes(const AttentionPlan& plan, int workers, int group, int64_t once) {
  std::vector<int64_t> busy(static_cast<size_t>(workers), 0);
  for (const AttentionUnit& unit : plan.units) {
    int64_t work = 0, rows = 0;
    for (int i = 0; i < unit.num_spans; ++i) {
      const AttentionSpan& span = plan.spans[static_cast<size_t>(unit.first_span + i)];
      const int pieces = unit.num_spans > 1 ? span.piece_end - unit.common_pieces
                                            : unit.piece_end - unit.piece_begin;
      work += (once + span.num_tokens * group) * pieces;
      rows += span.num_tokens * group;
    }
    *std::min_element(busy.begin(), busy.end()) += work + (once + rows) * unit.common_pieces;
  }
  return *std::max_element(busy.begin(), busy.end());
}

TEST_CASE("Where a unit writes out what it sees, a short chunk is one span by pieces") {
  const UnitLimits written_out = {.rows = 384, .writes_out = true};
  Step chunk, early, long_chunk, several;
  chunk.Add(0, 0, 900, 32);
  const AttentionPlan plan = chunk.Plan(2, true, written_out);
  CheckPlan(chunk, plan);
  CHECK(plan.spans.size() == 1);
  CHECK(plan.split);
  CHECK(PiecesWalked(plan) == 3 * 4);
  CHECK(PiecesWalked(chunk.Plan(2)) == 3 * 3 * 4);
  // One piece for three heads would leave the second worker with half of the first's work.
  early.Add(0, 0, 0, 128);
  CHECK(early.Plan(2, true, written_out).spans.size() == 3);
  // A span of all its tokens is more than a unit may have.
  long_chunk.Add(0, 0, 900, 200);
  const AttentionPlan cut = long_chunk.Plan(2, true, written_out);
  CheckPlan(long_chunk, cut);
  CHECK(cut.most_tokens == 75);
  // Nor are tails behind a common prefix joined so that workers idle.
  for (int s = 0; s < 6; ++s) several.Add(1, 31, 992, 20);
  const AttentionPlan tails = several.Plan(12, true, written_out);
  CheckPlan(several, tails);
  CHECK(tails.units.size() >= 24);
  // Three units of a long chunk would keep one of two workers twice as long as the other, whatever
  // short ones there are.
  Step two;
  two.Add(0, 0, 1500, 32);
  two.Add(0, 0, 0, 16);
  const AttentionPlan by_pieces = two.Plan(2, true, written_out);
  CheckPlan(two, by_pieces);
  CHECK(by_pieces.split);
  CHECK(by_pieces.units.size() == 3 * (6 + 1));
  // States of each piece are not kept for a context of any length.
  Step endless(32, 8);
  endless.Add(0, 0, kStride * kKvBlockTokens - 97, 96);
  endless.params.head_dim = 1024;
  CHECK(endless.Plan(8, true, written_out).partial_floats <= int64_t{4} << 20);
}

TEST_CASE("Whatever the batch, every row meets each of its pieces once") {
  int joined = 0, split = 0, better = 0, whole = 0;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const auto between = [&](int lo, int hi) {
      return lo + static_cast<int>(random() % static_cast<unsigned>(hi - lo + 1));
    };
    const int kv_heads = between(1, 4);
    Step step(kv_heads * between(1, 8), kv_heads);
    if (between(0, 5) == 0) step.params.window = between(1, 900);
    const int count = between(1, 40);
    for (int s = 0; s < count; ++s) {
      const int rows = between(0, 4) == 0 ? between(2, 100) : 1;
      const int position = between(0, kStride * kKvBlockTokens - rows - 1);
      // A chunk's own blocks are never another's.
      step.Add(between(0, 2), std::min(between(0, 40), position / kKvBlockTokens), position, rows);
    }
    const int workers = between(1, 12);
    UnitLimits limits = {.rows = kUnitRows * between(1, 4), .writes_out = between(0, 1) == 1};
    limits.block_rows = 16;
    const AttentionPlan by_blocks = step.Plan(workers, true, limits);
    CheckPlan(step, by_blocks);
    CheckBlocks(step, by_blocks, 16, &whole);
    limits.block_rows = 1;
    const AttentionPlan plan = step.Plan(workers, true, limits);
    CheckPlan(step, plan);
    CHECK(plan.loose_blocks.empty());
    joined += plan.joined ? 1 : 0;
    split += plan.split ? 1 : 0;
    if (limits.writes_out) {
      const int group = step.params.num_heads / step.params.num_kv_heads;
      const AttentionPlan as_it_lies = step.Plan(workers, true, {.rows = limits.rows});
      CHECK(Takes(plan, workers, group, 48) <= Takes(as_it_lies, workers, group, 48));
      better += Takes(plan, workers, group, 48) < Takes(as_it_lies, workers, group, 48) ? 1 : 0;
    } else {
      CHECK(PiecesWalked(plan) <= PiecesWalked(step.Plan(workers, false, limits)));
      CHECK(
          (!plan.joined || workers == 1 || plan.units.size() >= static_cast<size_t>(2 * workers)));
    }
  }
  CHECK(joined > 30);
  CHECK(split > 10);
  CHECK(better > 15);
  CHECK(whole > 100);
}

TEST_CASE("the first rows are the first half of the units, the longest of each half first") {
  Step step;
  for (int s = 0; s < 11; ++s) step.Add(0, 0, 100 + s);
  step.Add(0, 0, 300, 350);
  step.Add(0, 0, 0, 70);
  for (int s = 0; s < 9; ++s) step.Add(0, 0, 200 + s);
  const AttentionPlan plan = step.Plan(2);
  const auto span_of = [&](size_t unit) {
    return plan.spans[static_cast<size_t>(plan.units[unit].first_span)];
  };
  const size_t all = plan.units.size(), half = all / 2;
  REQUIRE(all > 20);
  int last_of_first = 0;
  for (size_t u = 0; u < half; ++u) last_of_first = std::max(last_of_first, span_of(u).token);
  for (size_t u = 0; u < all; ++u) {
    INFO("unit " << u << " of " << all);
    if (u >= half) CHECK(span_of(u).token >= last_of_first);
    const auto work = [](const AttentionSpan& span) { return span.num_tokens * span.piece_end; };
    if (u > 0 && u != half) CHECK(work(span_of(u)) <= work(span_of(u - 1)));
  }
}

TEST_CASE("units are claimed by several where they are alike") {
  Step alike, unlike;
  for (int s = 0; s < 64; ++s) {
    alike.Add(s, 0, 100);
    unlike.Add(s, 0, s == 5 ? 1900 : 100);
  }
  CHECK(alike.Plan(2).claim == 12);  // of 192
  CHECK(unlike.Plan(2).claim == 1);
  Step with_prompt;  // 32 rows of a prompt in one unit
  for (int s = 0; s < 16; ++s) with_prompt.Add(s, 0, 100, s == 0 ? 200 : 1);
  CHECK(with_prompt.Plan(2).claim == 1);
}

TEST_CASE("a step's plan is made once for all layers that look alike") {
  Step first, second;
  first.Add(1, 0, 100);
  second.Add(1, 0, 100);
  second.Add(2, 0, 700);
  first.Plan(2);
  second.Plan(2);
  AttentionPlans plans;
  const auto spans = [&](Step& step, uint64_t number, int window) {
    step.params.step = number;
    step.params.window = window;
    const AttentionPlan& plan = plans.Of(step.params, 2);
    return plan.spans.size() * 100 + static_cast<size_t>(plan.spans.back().piece_begin);
  };
  CHECK(spans(second, 1, 0) == 200);
  CHECK(spans(second, 1, 16) == 202);  // behind the window nothing is seen
  CHECK(spans(second, 1, 0) == 200);
  // Of a number that was there what is known is taken, right or not: so it is known.
  CHECK(spans(first, 1, 16) == 202);
  CHECK(spans(first, 2, 16) == 100);
  CHECK(spans(second, 2, 0) == 200);
  // Of none nothing is.
  CHECK(spans(first, 0, 0) == 100);
  CHECK(spans(second, 0, 0) == 200);
}

}  // namespace
}  // namespace modu::kernels::cpu
