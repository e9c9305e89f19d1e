// What is left of a step for the last layer, checked against its definition row by row.
#include "engine/model/tail_step.h"

#include <random>
#include <vector>

#include "tests/catch.h"

namespace modu::engine {
namespace {

struct Batch {
  std::vector<int32_t> cu_seqlens{0}, seq_lens, block_table, output_rows;
  int stride = 3;

  DecoderStep Step() const {
    DecoderStep step;
    step.num_tokens = cu_seqlens.back();
    step.num_seqs = static_cast<int>(seq_lens.size());
    step.cu_seqlens = cu_seqlens.data();
    step.seq_lens = seq_lens.data();
    step.block_table = block_table.data();
    step.block_table_stride = stride;
    step.output_rows = output_rows;
    step.number = 7;
    return step;
  }
};

Batch RandomBatch(std::mt19937& random) {
  Batch batch;
  const unsigned sequences = 1 + random() % 5, asked = random() % 4;
  for (unsigned s = 0; s < sequences; ++s) {
    const auto rows = static_cast<int32_t>(1 + random() % 6);
    batch.cu_seqlens.push_back(batch.cu_seqlens.back() + rows);
    batch.seq_lens.push_back(rows + static_cast<int32_t>(random() % 50));
    for (int i = 0; i < batch.stride; ++i) {
      batch.block_table.push_back(static_cast<int32_t>(random() % 1000));
    }
  }
  for (unsigned i = 0; i < asked; ++i) {  // in any order, some twice
    batch.output_rows.push_back(
        static_cast<int32_t>(random() % static_cast<unsigned>(batch.cu_seqlens.back())));
  }
  return batch;
}

TEST_CASE("rows from each sequence's first output on are left, with their sequence") {
  std::mt19937 random(11);
  TailStep tail;  // one for all: nothing of the step before may be left
  int whole = 0, none = 0;
  for (int round = 0; round < 500; ++round) {
    const Batch batch = RandomBatch(random);
    const DecoderStep all = batch.Step();
    tail.Cut(all, 8);
    const DecoderStep& left = tail.step();
    int32_t row_left = 0, seq_left = 0;
    for (int s = 0; s < all.num_seqs; ++s) {
      const int32_t row_before = row_left;
      bool met = false;
      for (int32_t row = all.cu_seqlens[s]; row < all.cu_seqlens[s + 1]; ++row) {
        for (const int32_t output : batch.output_rows) met = met || output == row;
        if (!met) continue;
        REQUIRE(row_left < left.num_tokens);
        CHECK(tail.RowOf(row) == row_left);
        if (!tail.is_whole()) CHECK(tail.rows()[row_left] == row);
        ++row_left;
      }
      if (row_left == row_before) continue;
      REQUIRE(seq_left < left.num_seqs);
      CHECK(left.cu_seqlens[seq_left] == row_before);
      CHECK(left.cu_seqlens[seq_left + 1] == row_left);
      CHECK(left.seq_lens[seq_left] == all.seq_lens[s]);
      for (int i = 0; i < batch.stride; ++i) {
        CHECK(left.block_table[seq_left * left.block_table_stride + i] ==
              all.block_table[s * batch.stride + i]);
      }
      ++seq_left;
    }
    CHECK(left.num_tokens == row_left);
    CHECK(left.num_seqs == seq_left);
    CHECK(left.number == (tail.is_whole() ? 7 : 8));
    CHECK(tail.is_whole() == (row_left == all.num_tokens));
    whole += tail.is_whole() ? 1 : 0;
    none += row_left == 0 ? 1 : 0;
  }
  CHECK(whole > 5);
  CHECK(none > 5);
}

}  // namespace
}  // namespace modu::engine
