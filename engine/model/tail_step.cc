#include "engine/model/tail_step.h"

#include <algorithm>

#include "kernels/check.h"

namespace modu::engine {

void TailStep::Reserve(int max_tokens) {
  const auto tokens = static_cast<size_t>(max_tokens);
  for (auto* vector : {&first_, &rows_, &seq_lens_}) vector->reserve(tokens);
  cu_seqlens_.reserve(tokens + 1);
}

void TailStep::Cut(const DecoderStep& all, uint64_t number) {
  const int32_t* const begins = all.cu_seqlens;
  first_.assign(begins + 1, begins + 1 + all.num_seqs);
  for (const int32_t row : all.output_rows) {
    MODU_CHECK(row >= 0 && row < all.num_tokens);
    const auto seq = std::upper_bound(begins, begins + all.num_seqs, row) - begins - 1;
    auto& first = first_[static_cast<size_t>(seq)];
    first = std::min(first, row);
  }
  is_whole_ = std::equal(first_.begin(), first_.end(), begins);
  if (is_whole_) {
    step_ = all;
    return;
  }
  rows_.clear();
  cu_seqlens_.assign(1, 0);
  seq_lens_.clear();
  block_table_.clear();
  for (int s = 0; s < all.num_seqs; ++s) {
    const int32_t first = first_[static_cast<size_t>(s)], end = begins[s + 1];
    if (first == end) continue;
    for (int32_t row = first; row < end; ++row) rows_.push_back(row);
    cu_seqlens_.push_back(static_cast<int32_t>(rows_.size()));
    seq_lens_.push_back(all.seq_lens[s]);
    const int32_t* const blocks = all.block_table + int64_t{s} * all.block_table_stride;
    block_table_.insert(block_table_.end(), blocks, blocks + all.block_table_stride);
  }
  step_ = {};
  step_.num_tokens = static_cast<int>(rows_.size());
  step_.num_seqs = static_cast<int>(seq_lens_.size());
  step_.cu_seqlens = cu_seqlens_.data();
  step_.seq_lens = seq_lens_.data();
  step_.block_table = block_table_.data();
  step_.block_table_stride = all.block_table_stride;
  step_.number = number;
}

int32_t TailStep::RowOf(int32_t row) const {
  if (is_whole_) return row;
  const auto at = std::lower_bound(rows_.begin(), rows_.end(), row);
  MODU_CHECK(at != rows_.end() && *at == row);
  return static_cast<int32_t>(at - rows_.begin());
}

}  // namespace modu::engine
