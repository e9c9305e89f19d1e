// What the last layer still has to attend: KV has to be written for every token of a step, but
// nobody asks for the output of a prompt's tokens before its last one.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/model/decoder_step.h"

namespace modu::engine {

/// A step without the rows that stand before the first output row of their sequence, and without
/// the sequences that have none. Engine thread; keeps its memory from step to step.
class TailStep {
 public:
  /// Steps of so many tokens allocate nothing but block tables that are longer than any before.
  void Reserve(int max_tokens);

  /// `all` must outlive the use of step(). number: of what is left, if it is not all of it.
  void Cut(const DecoderStep& all, uint64_t number);

  /// No row was cut off: step() is all of it.
  bool is_whole() const { return is_whole_; }
  /// The rows that are left, moved up. num_tokens 0: none is, and the pointers mean nothing. Of a
  /// step that was cut, only what attention reads is set.
  const DecoderStep& step() const { return step_; }
  /// [step().num_tokens] where each of them stood, rising. Of a step that was cut.
  const int32_t* rows() const { return rows_.data(); }
  /// Where row `row` of the whole step stands now; it must not have been cut off.
  int32_t RowOf(int32_t row) const;

 private:
  DecoderStep step_;
  bool is_whole_ = true;
  std::vector<int32_t> first_;  // [S of all] each sequence's first output row, or its end
  std::vector<int32_t> rows_, cu_seqlens_, seq_lens_, block_table_;
};

}  // namespace modu::engine
