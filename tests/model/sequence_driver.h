// Drives a ModelRunner by hand, the way the scheduler does: one sequence, its blocks in a scrambled
// order, any chunking.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/runner/model_runner.h"
#include "kernels/check.h"
#include "kernels/dtype.h"

namespace modu::tests {

class SequenceDriver {
 public:
  /// first_block..: where this sequence's KV goes; consecutive blocks are taken in reverse order,
  /// so that a mix-up of block and position shows.
  SequenceDriver(engine::ModelRunner* runner, int32_t first_block, int32_t num_blocks)
      : runner_(runner), stride_(num_blocks) {
    for (int32_t i = num_blocks - 1; i >= 0; --i) blocks_.push_back(first_block + i);
  }

  int32_t length() const { return length_; }

  /// Appends this sequence's next tokens to a packet; the caller may add others' before it is
  /// launched.
  void AddTo(engine::ForwardInput* input, const std::vector<int32_t>& ids) {
    const int32_t block_size = runner_->spec().groups[0].block_size;
    if (input->groups.empty()) {
      input->groups.resize(1);
      input->groups[0].block_table_stride = stride_;
      input->cu_seqlens.push_back(0);
    }
    MODU_CHECK(input->groups[0].block_table_stride == stride_);
    for (int32_t id : ids) {
      MODU_CHECK(length_ / block_size < stride_);
      input->token_ids.push_back(id);
      input->positions.push_back(length_);
      input->groups[0].slot_mapping.push_back(
          int64_t{blocks_[static_cast<size_t>(length_ / block_size)]} * block_size +
          length_ % block_size);
      ++length_;
    }
    input->cu_seqlens.push_back(static_cast<int32_t>(input->token_ids.size()));
    input->seq_lens.push_back(length_);
    auto& table = input->groups[0].block_table;
    table.insert(table.end(), blocks_.begin(), blocks_.end());
  }

  /// One step of this sequence alone; rows' token_row counts within `ids`.
  engine::StepOutput Step(const std::vector<int32_t>& ids, std::vector<engine::SampleRow> rows,
                          kernels::Phase phase = kernels::Phase::kPrompt) {
    engine::ForwardInput input;
    input.step = ++step_;
    input.num_generated_seqs = phase == kernels::Phase::kGeneration ? 1 : 0;
    AddTo(&input, ids);
    input.sample_rows = std::move(rows);
    return runner_->Wait(runner_->Launch(std::move(input)));
  }

 private:
  engine::ModelRunner* const runner_;
  const int32_t stride_;
  std::vector<int32_t> blocks_;
  int32_t length_ = 0;
  uint64_t step_ = 0;
};

/// A row that asks for the log probabilities of the `top` best tokens and draws greedily.
inline engine::SampleRow GreedyRow(int32_t token_row, engine::SamplerSlot slot, int32_t top) {
  engine::SampleRow row;
  row.token_row = token_row;
  row.slot = slot;
  row.top_logprobs = top;
  return row;
}

inline engine::SampleRow TargetRow(int32_t token_row, int32_t target, int32_t top = -1) {
  engine::SampleRow row;
  row.token_row = token_row;
  row.target_id = target;
  row.top_logprobs = top;
  return row;
}

}  // namespace modu::tests
